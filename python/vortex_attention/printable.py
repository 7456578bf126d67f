"""Words of others (flows, files, models, servers) as they may stand on a terminal, a page or in a message: every character prints."""


def blanked(text: object, lines: bool = False) -> str:
    """What does not print becomes a blank; with `lines` line ends stay, else all is on one line, words one blank apart."""
    out = "".join(c if c.isprintable() or (lines and c == "\n") else " " for c in str(text))
    return out if lines else " ".join(out.split())


def escaped(text: object, lines: bool = False) -> str:
    r"""What does not print is spelt out, "\x1b"; with `lines` line ends stay, else all is on one line."""
    words = str(text) if lines else " ".join(str(text).split())
    return "".join(c if c.isprintable() or (lines and c == "\n") else repr(c)[1:-1] for c in words)
