"""The lessons, the page of semantics and AGENTS.md run: Python blocks one after another, commands in the same folder; what came is what the page shows.

A block that begins with `# NAME.py` is saved under that name. A ```text block is what the Python block before it prints. In a ```console
block `$ vortex ...` is run and the lines after it are what it says, where `...` stands for the rest of a line, or alone for any lines.
"""

import fnmatch
import pathlib
import re
import shlex

import pytest

from vortex_attention.cli.app import main

ROOT = pathlib.Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "docs" / "lessons").glob("[0-9]-*.md"))
PAGES = [*LESSONS, ROOT / "docs" / "semantics.md", ROOT / "AGENTS.md"]
BLOCK = re.compile(r"```(python|text|console)\n(.*?)```", re.DOTALL)


def matches(shown: list[str], came: list[str]) -> bool:
    """Whether the lines that came are those shown."""
    if not shown:
        return not came
    if shown[0] == "...":
        return any(matches(shown[1:], came[start:]) for start in range(len(came) + 1))
    pattern = re.sub(r"([\[\]?*])", r"[\1]", shown[0]).replace("...", "*")
    return bool(came) and fnmatch.fnmatchcase(came[0], pattern) and matches(shown[1:], came[1:])


def run_console(block: str, capsys):
    for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, *shown = command.rstrip("\n").split("\n")
        program, *arguments = shlex.split(line)
        assert program == "vortex"
        main(arguments)
        said = capsys.readouterr()
        came = (said.out + said.err).rstrip("\n").split("\n")
        if shown and shown[-1].endswith(" ...") and shown[-1].strip() != "...":
            shown.append("...")
        assert matches(shown, came), "\n".join(came)


def test_there_are_five():
    assert [path.name[0] for path in LESSONS] == list("12345")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_lesson(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names, printed = {"__name__": "lesson"}, ""
    text = path.read_text()
    for kind, block in BLOCK.findall(text):
        if kind == "console":
            run_console(block, capsys)
        elif kind == "text":
            assert printed == block
        elif name := re.match(r"# (\w+\.py)\n", block):
            pathlib.Path(name[1]).write_text(block)
        else:
            line = text[: text.index(block)].count("\n")
            exec(compile("\n" * line + block, str(path), "exec"), names)
            printed = capsys.readouterr().out
