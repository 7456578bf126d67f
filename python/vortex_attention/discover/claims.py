"""What a study may say in the end, from confirmations alone: which flows are accurate, and which beat the ready flows.

Data that chose a flow say nothing here, and Holm's correction counts all the confirmations that a study may have, so a claim stands
whatever is confirmed after it. What a thousand studies of equal flows claim: benchmarks/equal_flows.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from scipy import stats

from ..measure.campaign import batch_means
from ..measure.decide import holm, one_sided_p
from ..measure.statistics import mean_interval
from .frontier import OUT, Point

CONFIRMATIONS = 8  # of a study
INCUMBENTS = 2  # ready flows that are confirmed before the found ones
SURE = (
    0.9  # probability of being accurate, by the gates, of what is worth a confirmation: that asks for more than likely
)
MARGIN = 0.10  # nat a token of the answer that a flow may lose and still count as accurate
LEVEL = 0.05


@dataclass(frozen=True)
class Sample:
    """A confirmation's measurements. gains: nat beside full attention, an item each; log_ratios: of full attention's time over the
    flow's, a round each. ready: whether it is one of the ready flows, which others are to beat. beside: by the proposal of another flow, log
    ratios of that flow's time over this one's, a round of the two alone each."""

    proposal: int
    gains: tuple[float, ...]
    log_ratios: tuple[float, ...]
    ready: bool = False
    beside: Mapping[int, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Confirmed:
    """One confirmation. p_accurate: one-sided p-value of the test against losing MARGIN or more; accurate: after Holm."""

    proposal: int
    gain: float
    gain_low: float
    ratio: float
    p_accurate: float
    accurate: bool


@dataclass(frozen=True)
class Claim:
    """That a flow is faster than the ready flow `against`, the hardest of those confirmed, and as accurate as full attention. ratio: times
    its speed, with the ends of a 95 % interval; p: that both hold not; wins: after Holm. against_accurate: whether `against` was itself
    confirmed accurate; where no ready flow was, all that were confirmed are to be beaten. paired: whether the two were timed beside each other."""

    proposal: int
    against: int
    ratio: float
    ratio_low: float
    ratio_high: float
    gain: float
    p: float
    wins: bool
    against_accurate: bool = True
    paired: bool = False


def to_confirm(
    points: list[Point], done: Collection[int], ready: Collection[int], most: int = CONFIRMATIONS
) -> list[int]:
    """The proposals to be confirmed together, all chosen by their gates before any is measured, in the order in which they are: the ready flow to
    beat and the one that is surest to be accurate, should the first not be; then in turn what is likeliest on the frontier and the fastest that is
    surely accurate. At most `most` with those that are done; none when there is nothing left."""
    chosen: list[int] = []
    while len(done) + len(chosen) < min(most, CONFIRMATIONS):
        following = _following(
            [point for point in points if int(point.key) not in {*done, *chosen}], [*done, *chosen], ready
        )
        if following is None:
            break
        chosen.append(int(following.key))
    return chosen


def _following(left: list[Point], taken: list[int], ready: Collection[int]) -> Point | None:
    incumbents = [point for point in left if int(point.key) in ready]
    tried = set(taken) & set(ready)
    if incumbents and len(tried) < INCUMBENTS:
        return max(incumbents, key=_surely_accurate if tried else _speed_if_accurate)
    found = [point for point in left if int(point.key) not in ready]
    fast = [point for point in found if point.p_accurate >= SURE]
    if fast and len(taken) % 2:
        return max(fast, key=_speed_if_accurate)
    hopeful = [point for point in found if point.state != OUT and point.p_accurate > 0.05]
    return max(hopeful, key=lambda point: (point.p_non_dominated, -int(point.key)), default=None)


def _surely_accurate(point: Point) -> tuple[float, float]:
    return round(point.p_accurate, 2), point.gain


def _speed_if_accurate(point: Point) -> tuple[bool, float]:
    accurate = point.p_accurate >= SURE
    return accurate, point.ratio if accurate else point.p_accurate


def confirmed(samples: list[Sample]) -> list[Confirmed]:
    """By falling speed."""
    found = []
    p_values = {sample.proposal: one_sided_p(sample.gains, -MARGIN) for sample in samples}
    accepted = _accepted(p_values)
    for sample in samples:
        gain = _mean(sample.gains)
        low = float(stats.t.interval(0.95, len(sample.gains) - 1, gain, stats.sem(sample.gains))[0])
        found.append(
            Confirmed(
                sample.proposal,
                gain,
                low,
                math.exp(_mean(sample.log_ratios)),
                p_values[sample.proposal],
                sample.proposal in accepted,
            )
        )
    return sorted(found, key=lambda one: -one.ratio)


def to_beat(samples: list[Sample]) -> list[Sample]:
    """The ready flows that were confirmed accurate; where none was, all that were confirmed."""
    accurate = {one.proposal for one in confirmed(samples) if one.accurate}
    ready = [sample for sample in samples if sample.ready]
    return [sample for sample in ready if sample.proposal in accurate] or ready


def claims(samples: list[Sample]) -> list[Claim]:
    """One for each confirmed flow that is not ready, the surest first; none where no ready flow was confirmed."""
    accurate = {one.proposal for one in confirmed(samples) if one.accurate}
    incumbents = to_beat(samples)
    if not incumbents:
        return []
    found, by_id = [], {sample.proposal: sample for sample in samples}
    for sample in samples:
        if sample.ready:
            continue
        tests = {other.proposal: _faster_than(sample, other) for other in incumbents}
        against = max(tests, key=lambda proposal: tests[proposal][0])
        p_faster, difference, low, high = tests[against]
        p = max(p_faster, one_sided_p(sample.gains, -MARGIN))  # both must hold: intersection-union
        found.append((sample, against, difference, low, high, p))
    accepted = _accepted({sample.proposal: p for sample, *_, p in found})
    made = [Claim(sample.proposal, against, math.exp(difference), math.exp(low), math.exp(high), _mean(sample.gains), p, sample.proposal in accepted, against in accurate,
                  bool(_rounds_of(sample, by_id[against])))
            for sample, against, difference, low, high, p in found]  # fmt: skip
    return sorted(made, key=lambda claim: (claim.p, claim.proposal))


def _rounds_of(sample: Sample, other: Sample) -> tuple[float, ...]:
    """Log ratios of the other's time over this one's in rounds of the two alone, whichever was confirmed later; () where there are none."""
    rounds = sample.beside.get(other.proposal) or tuple(-ratio for ratio in other.beside.get(sample.proposal, ()))
    return rounds if len(rounds) > 1 else ()


def _faster_than(sample: Sample, other: Sample) -> tuple[float, float, float, float]:
    """As `faster`, by the rounds of the two beside each other where there are any: what slows the machine down slows both, and full attention's own
    noise is in neither."""
    rounds = _rounds_of(sample, other)
    return beside(rounds) if rounds else faster(sample.log_ratios, other.log_ratios)


def _accepted(p_values: dict[int, float]) -> set[int]:
    """Holm, 1979, as if all CONFIRMATIONS had been made: those to come count as failed."""
    padded = [*p_values.values(), *[1.0] * (CONFIRMATIONS - len(p_values))]
    return {proposal for proposal, rejected in zip(p_values, holm(padded, LEVEL)) if rejected}


def beside(log_ratios: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Student's test that the mean of paired log ratios is above 0: its p-value, the mean and its 95 % interval. Of batches, as in `faster`."""
    means = batch_means(log_ratios)
    found = mean_interval(means)
    return one_sided_p(means), found.center, found.low, found.high


def faster(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Welch's test that the mean of a is above that of b, log ratios a round: its p-value, the difference and its 95 % interval. Rounds one after another are
    alike, so it is their batches that are tested."""
    a, b = tuple(batch_means(a)), tuple(batch_means(b))
    difference = _mean(a) - _mean(b)
    spread = math.sqrt(_variance(a) / len(a) + _variance(b) / len(b)) if len(a) > 1 and len(b) > 1 else math.inf
    if spread == 0.0:
        return (0.0 if difference > 0 else 1.0), difference, difference, difference
    if math.isinf(spread):
        return 1.0, difference, -math.inf, math.inf
    terms = [_variance(values) / len(values) for values in (a, b)]
    freedom = sum(terms) ** 2 / sum(term**2 / (len(values) - 1) for term, values in zip(terms, (a, b)))
    half = float(stats.t.ppf(0.975, freedom)) * spread
    return float(stats.t.sf(difference / spread, freedom)), difference, difference - half, difference + half


def _mean(values: tuple[float, ...]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: tuple[float, ...]) -> float:
    center = _mean(values)
    return math.fsum((value - center) ** 2 for value in values) / (len(values) - 1)
