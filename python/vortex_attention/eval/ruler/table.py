"""The 13 tasks as a table, how each is scored, and the official meaning of a right answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import unknown_name
from . import sources
from .documents import Documents
from .needles import Needles, NeedleShape
from .task import Prompt, Task
from .tracking import Tracking
from .words import CodedWords, CommonWords

VERSION = 1  # raised when the same seed gives other texts


@dataclass(frozen=True)
class Row:
    """kind: the official group, which fixes template, room for the answer and scoring."""

    kind: str
    make: type[Task]
    settings: dict


def _needle(haystack: str, **shape) -> Row:
    return Row("niah", Needles, {"shape": NeedleShape(haystack, **shape)})


TASKS: dict[str, Row] = {
    "niah_single_1": _needle("repeat"),
    "niah_single_2": _needle("essay"),
    "niah_single_3": _needle("essay", values="uuids"),
    "niah_multikey_1": _needle("essay", num_keys=4),
    "niah_multikey_2": _needle("needle"),
    "niah_multikey_3": _needle("needle", keys="uuids", values="uuids"),
    "niah_multivalue": _needle("essay", num_values=4),
    "niah_multiquery": _needle("essay", num_queries=4),
    "vt": Row("variable_tracking", Tracking, {}),
    "cwe": Row("common_words_extraction", CommonWords, {}),
    "fwe": Row("freq_words_extraction", CodedWords, {}),
    "qa_1": Row("qa", Documents, {"dataset": "squad"}),
    "qa_2": Row("qa", Documents, {"dataset": "hotpotqa"}),
}


def task(
    name: str,
    *,
    length: int,
    seed: int,
    count: Callable[[str], int],
    chat: Callable[[str, str], str] | None = None,
    **changes,
) -> Task:
    """The generator of a task. count: tokens of a text. chat: see Prompt. changes: of a generator's settings, for checks."""
    check_names([name])
    row = TASKS[name]
    official = sources.templates()[row.kind]
    prompt = Prompt(official["template"], official["answer_prefix"], chat)
    return row.make(name, prompt, official["tokens_to_generate"], length, seed, count, **(row.settings | changes))


def room_of(name: str) -> int:
    """Tokens that an answer may take."""
    return sources.templates()[TASKS[name].kind]["tokens_to_generate"]


def check_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in TASKS:
            raise unknown_name("ruler", f"tasks among {', '.join(TASKS)}", name, TASKS, "choose among them")


def score(name: str, said: str, outputs: Sequence[str]) -> float:
    """0 to 1: the share of the outputs that stand in what was said, whatever the case; of questions, whether one of them does."""
    said = re.sub(r"[\x00-\x1f]", "\n", said.strip()).strip().lower()
    found = [output.lower() in said for output in outputs]
    return float(any(found)) if TASKS[name].kind == "qa" else sum(found) / len(found)
