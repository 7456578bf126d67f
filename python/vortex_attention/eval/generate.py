"""Greedy answers of arms beside full attention's: full attention answers first; every arm is then fed that answer, so that KL and
agreement are compared at the same positions. Where an arm would have said another token, it goes on by itself from there. Several
questions are answered side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from .arms import FULL, Arms, Counts
from .compare import FullRow, later, likeliest, side_by_side

COMPARED = 32  # positions at which distributions are compared


@dataclass(frozen=True)
class Question:
    """base: the sequence that holds the prompt but for its token `last`. steps: tokens of an answer at most."""

    base: int
    last: int
    steps: int


@dataclass
class Answer:
    """tokens: without the one that ended it. finished: stop, or length when there was no more room. counts: of the steps that were
    compared."""

    tokens: list[int] = field(default_factory=list)
    finished: str = "length"
    kl: list[float] = field(default_factory=list)  # KL(full ‖ arm) by position of full attention's answer
    agreement: list[bool] = field(default_factory=list)  # the same likeliest token there
    counts: Counts = field(default_factory=Counts)

    def say(self, token: int, steps: int, stop: Collection[int]) -> bool:
        """Whether the answer goes on after it."""
        if token in stop:
            self.finished = "stop"
            return False
        self.tokens.append(token)
        return len(self.tokens) < steps


@dataclass
class Run:
    """An answer that goes on greedily from a sequence, whose next input is its last token."""

    sequence: int
    answer: Answer
    steps: int


def answers(
    arms: Arms, names: Sequence[str], questions: Sequence[Question], stop: Collection[int]
) -> list[dict[str, Answer]]:
    """Of each question, answers by arm; FULL must be among the names."""
    found: list[dict[str, Answer]] = [{name: Answer() for name in names} for _ in questions]
    rows: list[list[FullRow]] = [[] for _ in questions]
    for pairs in arms.pairs([FULL], len(questions)):
        _full(arms, [question for _, question in pairs], questions, found, rows, stop)
    for pairs in arms.pairs([name for name in names if name != FULL], len(questions)):
        _beside(arms, pairs, questions, found, rows, stop)
    return found


def _full(arms: Arms, which: list[int], questions, found, rows, stop: Collection[int]) -> None:
    with arms.fork([FULL] * len(which), [questions[question].base for question in which]) as branches:
        running, fed = list(range(len(which))), [questions[question].last for question in which]
        for _ in range(COMPARED):
            if not running:
                break
            logits = branches.decode(fed, running, checked=True)
            going, fed = [], []
            for branch, row in zip(running, side_by_side(FullRow, logits)):
                question = which[branch]
                answer: Answer = found[question][FULL]
                rows[question].append(row)
                answer.kl.append(0.0)
                answer.agreement.append(True)
                if answer.say(row.likeliest, questions[question].steps, stop):
                    going.append(branch)
                    fed.append(row.likeliest)
            running = going
        for branch, question in enumerate(which):
            found[question][FULL].counts = branches.counted[branch]
        go_on(arms, [Run(branches.sequences[branch], found[which[branch]][FULL], questions[which[branch]].steps)
                      for branch in running], stop)  # fmt: skip


def _beside(arms: Arms, pairs: list[tuple[str, int]], questions, found, rows, stop: Collection[int]) -> None:
    names, which = [name for name, _ in pairs], [question for _, question in pairs]
    with arms.fork(names, [questions[question].base for question in which]) as branches:
        runs: list[Run] = []
        astray: set[int] = set()
        compared = []  # of each position: its branches, and their KLs when they are known
        for position in range(COMPARED):
            running = [branch for branch, question in enumerate(which) if position < len(rows[question])]
            if not running:
                break
            fed = [_fed(questions[which[branch]], found[which[branch]][FULL], position) for branch in running]
            logits = branches.decode(fed, running, checked=True)
            beside = [rows[which[branch]][position] for branch in running]
            compared.append((running, later(FullRow.divergence, beside, logits)))
            for branch, full, token in zip(running, beside, side_by_side(likeliest, logits)):
                question = which[branch]
                answer: Answer = found[question][names[branch]]
                answer.agreement.append(token == full.likeliest)
                if token == full.likeliest or branch in astray:
                    continue
                astray.add(branch)
                answer.tokens = found[question][FULL].tokens[:position]
                if answer.say(token, questions[question].steps, stop):
                    runs.append(Run(branches.part(branch), answer, questions[question].steps))
        for running, divergences in compared:
            for branch, divergence in zip(running, divergences()):
                found[which[branch]][names[branch]].kl.append(divergence)
        for branch, question in enumerate(which):
            answer, full = found[question][names[branch]], found[question][FULL]
            answer.counts = branches.counted[branch]
            if branch in astray:
                continue
            answer.tokens = full.tokens[: len(rows[question])]
            if len(answer.tokens) == COMPARED < questions[question].steps:  # on from where the comparison ends
                runs.append(Run(branches.sequences[branch], answer, questions[question].steps))
            else:
                answer.finished = full.finished
        go_on(arms, runs, stop)


def _fed(question: Question, full: Answer, position: int) -> int:
    return question.last if position == 0 else full.tokens[position - 1]


def go_on(arms: Arms, runs: list[Run], stop: Collection[int]) -> None:
    """Greedy decoding until each has stopped or is full."""
    with arms.unrecorded():
        while runs:
            room = min(run.steps - len(run.answer.tokens) for run in runs)
            steps = max(1, min(arms.ahead, room))
            chosen = arms.bench.greedy([run.sequence for run in runs], [run.answer.tokens[-1] for run in runs], steps)
            runs = [
                run
                for index, run in enumerate(runs)
                if all(run.answer.say(token, run.steps, stop) for token in chosen[index :: len(runs)])
            ]
