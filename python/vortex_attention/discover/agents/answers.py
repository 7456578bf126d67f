"""What a language model answered, as flows to be traced: blocks of code with the hypothesis and the parents said before each.

Refuses nothing: what is not there is missing, what is too long is cut, what speaks to a terminal is made plain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...printable import blanked

SOURCE_CHARACTERS = 64 << 10
HYPOTHESIS_CHARACTERS = 2000
_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
_HYPOTHESIS = re.compile(r"hypothesis\W{0,8}(.*?)(?=\n\W{0,16}parents?\b|\Z)", re.IGNORECASE | re.DOTALL)
_PARENTS = re.compile(r"parents?\W{0,8}((?:\d{1,9}[ ,and#]*)+)", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    source: str
    hypothesis: str
    parents: tuple[int, ...]


def read(text: str, most: int) -> list[Answer]:
    """At most so many, in order."""
    found, end = [], 0
    for block in _BLOCK.finditer(text):
        before, end = text[end : block.start()], block.end()
        said = _HYPOTHESIS.search(before)
        parents = _PARENTS.search(before)
        hypothesis = blanked(said[1] if said else "").strip(" *#\n")[:HYPOTHESIS_CHARACTERS]
        found.append(
            Answer(
                block[1][:SOURCE_CHARACTERS],
                hypothesis or "none was given",
                tuple(dict.fromkeys(int(number) for number in re.findall(r"\b\d{1,9}\b", parents[1])))
                if parents
                else (),
            )
        )
        if len(found) == most:
            break
    return found
