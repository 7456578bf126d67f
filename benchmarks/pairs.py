"""What the comparisons with llama.cpp share: both engines are fed the same tokens in blocks theirs, ours, ours, theirs, and a pair whose
likeliest next tokens differ in more than a tenth of the cases is no result."""

import statistics
import time
from dataclasses import dataclass
from typing import Callable, Protocol, Sequence

from vortex_attention.measure.statistics import Interval, ratio_interval


class Engine(Protocol):
    def feed(self, tokens: Sequence[int]) -> list[int]:
        """One step, a token of each sequence; the likeliest next tokens."""


@dataclass(frozen=True)
class Comparison:
    """Milliseconds a step, medians over the rounds; theirs ÷ ours with its 95 % interval; likeliest tokens that agree."""

    theirs: float
    ours: float
    ratio: Interval
    agreed: int
    compared: int

    def require_agreement(self, where: str) -> None:
        if self.agreed < 0.9 * self.compared:
            raise SystemExit(
                f"{where}: the two disagree on {self.compared - self.agreed} of {self.compared} tokens: no result"
            )


def _block(engine: Engine, steps: Sequence[Sequence[int]]) -> tuple[float, list[int]]:
    """Seconds a step (the median of the block's steps) and the likeliest tokens of all its steps and sequences."""
    times, said = [], []
    for tokens in steps:
        began = time.perf_counter()
        said += engine.feed(tokens)
        times.append(time.perf_counter() - began)
    return statistics.median(times), said


def tokens_needed(rounds: int, steps: int) -> int:
    """Tokens that each sequence is fed."""
    return 2 * (rounds + 1) * steps


def compare(theirs: Engine, ours: Engine, step: Callable[[int], Sequence[int]], rounds: int, steps: int) -> Comparison:
    """step(i): the tokens of step i, one of each sequence. steps: of a block. The first round warms up and is not timed."""
    slow, fast, agreed, compared = [], [], 0, 0
    for index in range(rounds + 1):
        fed = [step(2 * index * steps + i) for i in range(2 * steps)]
        first, second = fed[:steps], fed[steps:]
        a, said_a = _block(theirs, first)
        b, said_b = _block(ours, first)
        c, said_c = _block(ours, second)
        d, said_d = _block(theirs, second)
        agreed += sum(x == y for x, y in zip(said_a + said_d, said_b + said_c))
        compared += len(said_b + said_c)
        if index:
            slow.append(a + d)
            fast.append(b + c)
    return Comparison(
        500 * statistics.median(slow), 500 * statistics.median(fast), ratio_interval(slow, fast), agreed, compared
    )
