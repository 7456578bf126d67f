"""What a study asks: single needles, or a choice of RULER's tasks at one length or several; the confirmation may have tasks and lengths of
its own, which no gate shows.

An answer is teacher-forced, token by token: of a needle its number, of a RULER task the expected outputs one after another (of a question the
first of the answers that are right). RULER's own score of a free answer is asked of confirmations alone. Refuses tasks that RULER does not have.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UserError
from ..eval import needle

SUITES = ("needle", "ruler")
TASKS = ("niah_multikey_2", "niah_multikey_3", "niah_multivalue", "vt", "cwe", "fwe", "qa_1", "qa_2")  # of RULER
NEEDLE_ROOM = 32  # tokens of a needle's answer, at most
NUMBERED = 2000  # questions of a task that a part begins at one of


@dataclass(frozen=True)
class Question:
    """prompt: tokens up to where the answer begins; answer: those that are forced. outputs: what a right answer of RULER says, room: tokens
    that it may take."""

    name: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    group: str = ""
    outputs: tuple[str, ...] = ()
    room: int = 0

    def score(self, said: str) -> float:
        """0 to 1, as RULER's scripts score what was said."""
        from ..eval.ruler import table

        return table.score(self.group, said, self.outputs)


def checked(workload) -> None:
    """UserError for a suite or a task that there is not, or one where it means nothing."""
    from ..eval.ruler import table

    if workload.suite not in SUITES:
        raise UserError(
            "discover", f"a suite among {', '.join(SUITES)}", repr(workload.suite), "leave it out for needles"
        )
    if workload.suite == "needle":
        if workload.tasks or workload.confirm_tasks:
            raise UserError(
                "discover", "tasks of a suite that has some", f"--tasks with {workload.suite}", "say --suite ruler"
            )
        return
    table.check_names([*workload.tasks, *workload.confirm_tasks])


def lengths_of(workload, part: str) -> tuple[int, ...]:
    """Of a part's prompts, in tokens."""
    return workload.confirm_lengths if part == "confirm" and workload.confirm_lengths else (workload.length,)


def tasks_of(workload, part: str) -> tuple[str, ...]:
    return (workload.confirm_tasks if part == "confirm" else ()) or workload.tasks or TASKS


def room(workload) -> int:
    """Tokens that an answer takes beside its prompt's length, at most."""
    if workload.suite == "needle":
        return NEEDLE_ROOM
    from ..eval.ruler import table

    return max(table.room_of(task) for part in ("gate", "confirm") for task in tasks_of(workload, part)) + 64


def make(workload, part: str, count: int, seed: int, loaded, natural: Callable[[], str]) -> list[Question]:
    """`count` questions that part and seed fix, task and length in turn. loaded: the model, whose tokens they are of."""

    def encode(text: str) -> list[int]:
        return list(loaded.tokenizer.encode(text, control=True))

    lengths = lengths_of(workload, part)
    if workload.suite == "needle":
        made = []
        for place, length in enumerate(lengths):
            share = len(range(place, count, len(lengths)))
            if share:
                made.append(
                    needle.make_items(natural(), encode, loaded.chat, length=length, count=share, seed=seed, drawn=True)
                )
        return [Question(item.name, item.prompt, item.answer) for item in _in_turn(made)]
    cells = [(task, length) for length in lengths for task in tasks_of(workload, part)]
    made = []
    for place, (name, length) in enumerate(cells):
        share = len(range(place, count, len(cells)))
        if share:
            made.append(_of_task(name, length, share, part, seed, encode, loaded))
    return _in_turn(made)


def _in_turn(lists: list[list]) -> list:
    """One of each list, then the second of each: earlier lists are as long as later ones or longer by one."""
    return [found[index] for index in range(max(map(len, lists))) for found in lists if index < len(found)]


def _of_task(name: str, length: int, count: int, part: str, seed: int, encode, loaded) -> list[Question]:
    from ..eval.ruler import table

    own = int.from_bytes(hashlib.sha256(f"{part} {seed} {name} {length}".encode()).digest()[:4], "big")
    task = table.task(
        name,
        length=length,
        seed=own,
        count=lambda text: len(encode(text)),
        chat=loaded.chat if loaded.chat_template is not None else None,
    )
    # Questions about documents are a list that the seed does not change: the confirmation takes those of odd numbers.
    first = 2 * random.Random(own).randrange(NUMBERED) + (part == "confirm")
    made = []
    for index, sample in enumerate(task.samples(count, indices=range(first, first + 2 * count, 2))):
        said = sample.outputs[0] if table.TASKS[name].kind == "qa" else ", ".join(sample.outputs)
        answer = encode(said if sample.text[-1:].isspace() else f" {said}")
        made.append(
            Question(
                f"{name}-{length}-{part}-{seed}-{index}",
                tuple(encode(sample.text)),
                tuple(answer),
                name,
                sample.outputs,
                table.room_of(name),
            )
        )
    return made
