"""A campaign's decisions: many candidates against one incumbent, a winner declared only on fresh data. Every candidate is
screened; the few that look best are measured again, and only the second measurement decides, with Holm over those few. So the
chance that any of the candidates that are no better is declared a winner is at most `level`, however many there are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import special

from .decide import holm, is_losing, one_sided_p

# (candidate, first, count) → values of that many further units of it, larger is better, each paired with the incumbent or full.
Measure = Callable[[int, int, int], Sequence[float]]


@dataclass(frozen=True)
class Plan:
    """Sizes, said before. screen, confirm: rounds of A B B A; items, confirm_items: paired items of the accuracy guard; finalists: how many
    are confirmed. margin: the accuracy that may be lost, in nats of answer log-probability."""

    screen: int = 8
    confirm: int = 20
    items: int = 48
    confirm_items: int = 96
    finalists: int = 8
    margin: float = 0.10
    level: float = 0.05

    @classmethod
    def for_effect(cls, effect: float, deviation: float, candidates: int, power: float = 0.92, **sizes) -> "Plan":
        """The rounds that find one candidate whose time is smaller by `effect` (0.03: three percent) among so many, when the
        logarithm of one round's ratio has standard deviation `deviation`: it must be among the finalists and then pass Holm's
        strictest step, each with the square root of `power`."""
        plan = cls(**sizes)
        shift, each = math.log1p(effect) / deviation, float(special.ndtri(math.sqrt(power)))
        entering = float(special.ndtri(max(0.5, 1 - plan.finalists / candidates)))
        strictest = 1 - plan.level / min(plan.finalists, candidates)
        screen = math.ceil(((entering + each) / shift) ** 2)
        confirm = math.ceil(((float(special.ndtri(strictest)) + each) / shift) ** 2)
        for _ in range(3):  # quantiles of t instead of the normal's
            confirm = math.ceil(((float(special.stdtrit(max(2, confirm - 1), strictest)) + each) / shift) ** 2)
        return dataclasses.replace(plan, screen=max(4, screen), confirm=max(4, confirm))


@dataclass(frozen=True)
class Decision:
    """winners: candidates confirmed faster than the incumbent that did not lose accuracy. worse: candidates whose accuracy is
    below the margin. stopped: those that a look before the end ended."""

    winners: tuple[int, ...]
    worse: tuple[int, ...]
    stopped: tuple[int, ...]
    p_values: dict[int, float]


def batch_means(values: Sequence[float], size: int = 7, least: int = 12) -> list[float]:
    """Means of consecutive rounds, which a drifting machine makes alike; smaller batches when there would be fewer than
    `least` of them. What is left over at the end goes into the last one."""
    size = max(1, min(size, len(values) // least))
    cuts = list(range(0, len(values) - size + 1, size))
    ends = [*cuts[1:], len(values)]
    return [math.fsum(values[begin:end]) / (end - begin) for begin, end in zip(cuts, ends)]


def decide(candidates: int, speed: Measure, accuracy: Measure, plan: Plan = Plan()) -> Decision:
    """speed: logarithm of (incumbent's time ÷ candidate's), one value a round. accuracy: candidate's answer log-probability −
    full attention's, one value an item."""
    means, worse, stopped = {}, [], []
    for candidate in range(candidates):
        losses = list(accuracy(candidate, 0, plan.items))
        if is_losing(losses, plan.margin, 1 - plan.level):
            worse.append(candidate)
            continue
        values = list(speed(candidate, 0, plan.screen))
        if is_losing(values):
            stopped.append(candidate)
            continue
        means[candidate] = math.fsum(values) / len(values)
    finalists = sorted(means, key=lambda candidate: -means[candidate])[: plan.finalists]
    p_values = {}
    for candidate in finalists:
        faster = one_sided_p(batch_means(speed(candidate, plan.screen, plan.confirm)))
        kept = one_sided_p(accuracy(candidate, plan.items, plan.confirm_items), -plan.margin)
        p_values[candidate] = max(faster, kept)  # both must hold: intersection-union
    rejected = holm([p_values[candidate] for candidate in finalists], plan.level)
    winners = tuple(candidate for candidate, wins in zip(finalists, rejected) if wins)
    return Decision(winners, tuple(worse), tuple(stopped), p_values)
