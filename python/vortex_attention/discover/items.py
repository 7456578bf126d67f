"""What a study asks: single needles, or a choice of RULER's tasks at one length or several; the confirmation may have tasks and lengths of
its own, which no gate shows.

An answer is teacher-forced, token by token: of a needle its number, of a RULER task the expected outputs one after another (of a question the
first of the answers that are right). RULER's own score of a free answer is asked of confirmations alone. Refuses tasks that RULER does not have.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UserError
from ..eval import needle
from ..models import open_source
from ..models.chat import ChatTemplate

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


def each_length(workload, part: str, count: int) -> list[int]:
    """Of each of `count` prompts."""
    lengths = lengths_of(workload, part)
    if workload.suite == "needle":
        return [lengths[place % len(lengths)] for place in range(count)]
    return [length for _, length, share, _, _ in cells_of(workload, part, count, 0) for _ in range(share)]


def tasks_of(workload, part: str) -> tuple[str, ...]:
    return (workload.confirm_tasks if part == "confirm" else ()) or workload.tasks or TASKS


def room(workload) -> int:
    """Tokens that an answer takes beside its prompt's length, at most."""
    if workload.suite == "needle":
        return NEEDLE_ROOM
    from ..eval.ruler import table

    return max(table.room_of(task) for part in ("gate", "confirm") for task in tasks_of(workload, part)) + 64


class Makers:
    """Processes that make RULER's questions side by side, each with the model's tokenizer. start: how a process begins, see multiprocessing."""

    def __init__(self, model: str, processes: int, start: str = "spawn"):
        context = multiprocessing.get_context(start)
        self._pool = concurrent.futures.ProcessPoolExecutor(processes, context, initializer=_know, initargs=(model,))
        self._begun: dict[tuple, concurrent.futures.Future] = {}

    def cells(self, cells: list[tuple]) -> list[list[Question]]:
        """Of each (task, length, count, part, seed)."""
        self.expect(cells)
        return [self._begun.pop(cell).result() for cell in cells]

    def expect(self, cells: list[tuple]) -> None:
        """Begins with those that will be asked for."""
        for cell in cells:
            if cell not in self._begun:
                self._begun[cell] = self._pool.submit(_cell, cell)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Words:
    """As much of a loaded model as questions are made with."""

    def __init__(self, model: str):
        source = open_source(model)
        self.tokenizer = source.tokenizer()
        self.tokenizer.cover(source.config.vocabulary)
        template = source.chat_template()
        self.chat_template = None if template is None else ChatTemplate(template, self.tokenizer, source.where)

    def chat(self, user: str, answer_start: str = "") -> str:
        return self.chat_template.render([{"role": "user", "content": user}]) + answer_start


_words: _Words | None = None  # of a maker's process


def _know(model: str) -> None:
    global _words
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # Ctrl-C is said by the process that asked
    _words = _Words(model)


def _cell(cell: tuple) -> list[Question]:
    return _of_task(*cell, _words)


def make(
    workload, part: str, count: int, seed: int, loaded, natural: Callable[[], str], makers: Makers | None = None
) -> list[Question]:
    """`count` questions that part and seed fix, task and length in turn. loaded: the model, whose tokens they are of. makers: who makes
    RULER's; None: this process."""

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
    cells = cells_of(workload, part, count, seed)
    return _in_turn(makers.cells(cells) if makers else [_of_task(*cell, loaded) for cell in cells])


def cells_of(workload, part: str, count: int, seed: int) -> list[tuple]:
    """(task, length, count, part, seed) of RULER's questions."""
    kinds = [(task, length) for length in lengths_of(workload, part) for task in tasks_of(workload, part)]
    shares = [len(range(place, count, len(kinds))) for place in range(len(kinds))]
    return [(task, length, share, part, seed) for (task, length), share in zip(kinds, shares) if share]


def _in_turn(lists: list[list]) -> list:
    """One of each list, then the second of each: earlier lists are as long as later ones or longer by one."""
    return [found[index] for index in range(max(map(len, lists))) for found in lists if index < len(found)]


def _of_task(name: str, length: int, count: int, part: str, seed: int, loaded) -> list[Question]:
    from ..eval.ruler import table

    def encode(text: str) -> list[int]:
        return list(loaded.tokenizer.encode(text, control=True))

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
