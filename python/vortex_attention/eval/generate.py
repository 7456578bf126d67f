"""Greedy answers of arms beside full attention's: full attention answers first; every arm is then fed that answer, so that KL and
agreement are compared at the same positions, and an arm that would have said another token answers again by itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from .arms import FULL, Arms, Counts, divergence
from .score import log_softmax

COMPARED = 32  # positions at which distributions are compared


@dataclass
class Answer:
    """tokens: without the one that ended it. finished: stop, or length when there was no more room."""

    tokens: list[int] = field(default_factory=list)
    finished: str = "length"
    kl: list[float] = field(default_factory=list)  # KL(full ‖ arm) by position of full attention's answer
    agreement: list[bool] = field(default_factory=list)  # the same likeliest token there
    counts: Counts = field(default_factory=Counts)


def answers(arms: Arms, names: Sequence[str], last: int, steps: int, stop: Collection[int]) -> dict[str, Answer]:
    """Answers of at most `steps` tokens after the token `last`, by arm; FULL must be among the names."""
    found = {FULL: Answer()}
    rows = _full(arms, found[FULL], last, steps, stop)
    for group in arms.groups([name for name in names if name != FULL]):
        _beside(arms, group, found, rows, last, steps, stop)
    return {name: found[name] for name in names}


def _full(arms: Arms, answer: Answer, last: int, steps: int, stop: Collection[int]) -> list[np.ndarray]:
    rows: list[np.ndarray] = []
    with arms.fork([FULL]) as branch:
        token = last
        for _ in range(steps):
            logits = branch.decode([token])[0]
            if len(rows) < COMPARED:
                rows.append(log_softmax(logits))
                answer.kl.append(0.0)
                answer.agreement.append(True)
            token = int(logits.argmax())
            if token in stop:
                answer.finished = "stop"
                break
            answer.tokens.append(token)
        answer.counts = branch.counts[FULL]
    return rows


def _beside(
    arms: Arms,
    group: list[str],
    found: dict[str, Answer],
    rows: list[np.ndarray],
    last: int,
    steps: int,
    stop: Collection[int],
) -> None:
    full = found[FULL]
    found |= {name: Answer() for name in group}
    astray: set[str] = set()
    with arms.fork(group) as branches:
        token = last
        for position, row in enumerate(rows):
            logits = branches.decode([token] * len(group))
            likeliest = int(row.argmax())
            for name, arm_row in zip(group, logits):
                own = log_softmax(arm_row)
                agrees = int(own.argmax()) == likeliest
                found[name].kl.append(divergence(row, own))
                found[name].agreement.append(agrees)
                if not agrees:
                    astray.add(name)
            token = full.tokens[position] if position < len(full.tokens) else likeliest
        for name in group:
            found[name].counts = branches.counts[name]
        same = [i for i, name in enumerate(group) if name not in astray]
        if len(rows) == steps or (full.finished == "stop" and len(rows) == len(full.tokens) + 1):
            for i in same:
                found[group[i]].tokens, found[group[i]].finished = list(full.tokens), full.finished
        elif same:  # a long answer goes on from where the comparison ends
            for i in same:
                found[group[i]].tokens = list(full.tokens[: len(rows)])
            _free(branches, same, found, [found[group[i]].tokens[-1] for i in same], steps, stop)
    rest = [name for name in group if name in astray]
    if rest:
        with arms.fork(rest) as branches:
            _free(branches, range(len(rest)), found, [last] * len(rest), steps, stop)
            for name in rest:
                found[name].counts = branches.counts[name]


def _free(
    branches, which: Sequence[int], found: dict[str, Answer], tokens: list[int], steps: int, stop: Collection[int]
) -> None:
    """Greedy decoding until each has stopped or is full."""
    running, fed = list(which), list(tokens)
    while running:
        logits = branches.decode(fed, running)
        going, next_fed = [], []
        for i, row in zip(running, logits):
            answer, token = found[branches.names[i]], int(row.argmax())
            if token in stop:
                answer.finished = "stop"
                continue
            answer.tokens.append(token)
            if len(answer.tokens) < steps:
                going.append(i)
                next_fed.append(token)
        running, fed = going, next_fed
