"""Byte-level BPE: every byte of a text is a letter of the vocabulary, merging is the tokenizers library's work. Refuses
pre-tokenizers that are not in the table below."""

import tokenizers
from tokenizers import Regex, pre_tokenizers

from vortex_attention import _core
from vortex_attention.errors import UserError

# Contractions; a word with at most one sign before it; digits; signs; line ends; blanks.
_WORDS = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _words(digits: str) -> list:
    split = pre_tokenizers.Split(Regex(_WORDS.format(digits=digits)), "isolated")
    return [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def _gpt2() -> list:
    return [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]


# How text is cut before merging; the name is the file's tokenizer.ggml.pre.
PRE_TOKENIZERS = {
    "gpt-2": _gpt2,
    "smollm": lambda: [pre_tokenizers.Digits(individual_digits=True), *_gpt2()],
    "qwen2": lambda: _words(r"\p{N}"),
    "llama-bpe": lambda: _words(r"\p{N}{1,3}"),
}
# Other names of the same, as files have them.
_ALIASES = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}
# These take a word that is a token whole, whatever the merges would make of it, and begin with bos unless told otherwise.
_WHOLE_WORDS = {"llama-bpe"}


def _byte_letters() -> dict[str, int]:
    """The letters that stand for bytes in a byte-level vocabulary: printable bytes are themselves, the others follow
    U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()


def bytes_of(token: str) -> bytes:
    """What a token stands for. One with a letter outside the table stands for its own text."""
    return (
        bytes(_BYTES[letter] for letter in token)
        if all(letter in _BYTES for letter in token)
        else token.encode("utf-8", "replace")
    )


def pre_tokenizer_named(name: str | None, where: str) -> str:
    """The name in the table; UserError for one that is not there."""
    name = _ALIASES.get(name, name)
    if name not in PRE_TOKENIZERS:
        near = _core.nearest_name(name, list(PRE_TOKENIZERS)) if name else ""
        raise UserError(
            where,
            f"one of the pre-tokenizers {', '.join(PRE_TOKENIZERS)}",
            f"got tokenizer.ggml.pre = {name}" if name else "the file has no tokenizer.ggml.pre",
            f"did you mean {near}?" if near else "use another model, or convert the file again if it is an old one",
        )
    return name


class ByteLevel:
    """Plain text to tokens. `pre`: a name of the table."""

    adds_prefix_space = False

    def __init__(self, vocabulary: dict[str, int], merges: list[str], pre: str, where: str):
        self.begins_with_bos = pre in _WHOLE_WORDS
        try:
            pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
            model = tokenizers.models.BPE(vocabulary, pairs, ignore_merges=pre in _WHOLE_WORDS)
            self._bpe = tokenizers.Tokenizer(model)
        except Exception as error:
            todo = "the file is damaged, fetch it again"
            raise UserError(where, "merges of tokens in the vocabulary", str(error), todo) from None
        steps = PRE_TOKENIZERS[pre]()
        if absent := "".join(letter for letter in _BYTES if letter not in vocabulary):
            # Bytes that the vocabulary has no letter for are left out; what stands beside them does not merge over them.
            letters = "".join(f"\\x{{{ord(letter):x}}}" for letter in absent)
            steps.append(pre_tokenizers.Split(Regex(f"[{letters}]"), "removed"))
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(steps)

    def encode(self, text: str, first: bool) -> list[int]:
        return self._bpe.encode(text, add_special_tokens=False).ids
