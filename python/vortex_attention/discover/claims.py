"""What a study may say in the end, from confirmations alone: which flows are accurate, and which beat the ready flows, being faster and as
accurate as full attention, or more accurate than they at their speed.

Data that chose a flow say nothing here, and Holm's correction counts all the confirmations that a study may have, so a claim stands
whatever is confirmed after it. What a thousand studies of equal flows claim: benchmarks/equal_flows.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field

from ..measure.decide import holm, one_sided_p
from ..measure.statistics import mean_interval
from .differences import Difference, beside, faster, more_accurate
from .frontier import OUT, Point

CONFIRMATIONS = 8  # of a study
INCUMBENTS = 2  # ready flows that are confirmed before the found ones
SURE = (
    0.9  # probability of being accurate, by the gates, of what is worth a confirmation: that asks for more than likely
)
MARGIN = 0.10  # nat a token of the answer that a flow may lose and still count as accurate
SPEED_MARGIN = 0.03  # of the time of the ready flow to beat that a more accurate flow may take beyond it and still count as as fast
LEVEL = 0.05

FASTER, MORE_ACCURATE = "faster", "more accurate"  # kinds of claim


@dataclass(frozen=True)
class Sample:
    """A confirmation's measurements. gains: nat beside full attention by item; log_ratios: of full attention's time over the
    flow's, a round each. ready: whether it is one of the ready flows, which others are to beat. beside: by the proposal of another flow, log
    ratios of that flow's time over this one's, a round of the two alone each."""

    proposal: int
    gains: Mapping[str, float]
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
    """That a flow beats the ready flows that are to beat. faster: than each of them, and as accurate as full attention (MARGIN); more accurate: than
    each, and not slower than any by more than SPEED_MARGIN. Of each kind there is one for each found flow, held or not.

    against: the ready flow that is the hardest to beat in this way. ratio: times its speed, advantage: nat over it, with the ends of 95 %
    intervals; gain: nat beside full attention; p: that it does not hold; wins: after Holm over both kinds. against_accurate: whether `against` was
    itself confirmed accurate; where no ready flow was, all that were confirmed are to be beaten. paired: whether the two were timed beside each
    other, in `rounds` rounds; shared: how many items both answered, 0 where each was confirmed on its own."""

    kind: str
    proposal: int
    against: int
    ratio: float
    ratio_low: float
    ratio_high: float
    advantage: float
    advantage_low: float
    advantage_high: float
    gain: float
    p: float
    wins: bool
    against_accurate: bool = True
    paired: bool = False
    rounds: int = 0
    shared: int = 0

    def __str__(self) -> str:
        also = "accurate" if self.kind == FASTER else f"at most {100 * SPEED_MARGIN:g} % slower"
        return (
            f"proposal {self.proposal} is {self.ratio:.2f} [{self.ratio_low:.2f}, {self.ratio_high:.2f}] times as fast as the ready flow {self.against}"
            + ("" if self.against_accurate else " (no ready flow was confirmed accurate)")
            + (", timed beside it" if self.paired else ", each timed beside full attention")
            + f", and {self.advantage:+.3f} [{self.advantage_low:+.3f}, {self.advantage_high:+.3f}] nat beside it"
            + (f" on the {self.shared} items of both" if self.shared > 1 else ", each on items of its own")
            + f": that it is {self.kind} and {also} is {'' if self.wins else 'not '}shown (p = {self.p:.2g})"
        )


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
    p_values = {sample.proposal: one_sided_p(_gains(sample), -MARGIN) for sample in samples}
    accepted = _accepted(p_values, CONFIRMATIONS)
    for sample in samples:
        gains = _gains(sample)
        gain = _mean(gains)
        low = mean_interval(gains).low
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
    """One of each kind for each confirmed flow that is not ready, the surest first; none where no ready flow was confirmed."""
    accurate = {one.proposal for one in confirmed(samples) if one.accurate}
    incumbents = to_beat(samples)
    if not incumbents:
        return []
    found = []
    for sample in samples:
        if not sample.ready:
            pairs = {other.proposal: _Pair.of(sample, other) for other in incumbents}
            for kind in (FASTER, MORE_ACCURATE):
                against = max(pairs, key=lambda proposal: (pairs[proposal].p(kind), pairs[proposal].speed.p()))
                found.append((kind, sample.proposal, against, pairs[against]))
    accepted = _accepted({(kind, proposal): pair.p(kind) for kind, proposal, _, pair in found}, 2 * CONFIRMATIONS)
    made = [
        Claim(
            kind,
            proposal,
            against,
            *map(math.exp, (pair.speed.center, *pair.speed.interval())),
            pair.accuracy.center,
            *pair.accuracy.interval(),
            pair.gain,
            pair.p(kind),
            (kind, proposal) in accepted,
            against in accurate,
            pair.paired,
            pair.rounds,
            pair.shared,
        )
        for kind, proposal, against, pair in found
    ]
    return sorted(made, key=lambda claim: (claim.p, claim.proposal, claim.kind))


@dataclass(frozen=True)
class _Pair:
    """A found flow beside a ready one. p_accurate: that it loses MARGIN or more beside full attention."""

    speed: Difference
    accuracy: Difference
    gain: float
    p_accurate: float
    paired: bool
    rounds: int
    shared: int

    @staticmethod
    def of(sample: Sample, other: Sample) -> _Pair:
        rounds, gains = _rounds_of(sample, other), _gains(sample)
        return _Pair(
            beside(rounds) if rounds else faster(sample.log_ratios, other.log_ratios),
            more_accurate(sample.gains, other.gains),
            _mean(gains),
            one_sided_p(gains, -MARGIN),
            bool(rounds),
            len(rounds) or min(len(sample.log_ratios), len(other.log_ratios)),
            len(sample.gains.keys() & other.gains.keys()),
        )

    def p(self, kind: str) -> float:
        """That the claim does not hold. It needs both of two: the larger of their p-values (intersection-union)."""
        if kind == FASTER:
            return max(self.speed.p(), self.p_accurate)
        return max(self.accuracy.p(), self.speed.p(-math.log1p(SPEED_MARGIN)))


def _rounds_of(sample: Sample, other: Sample) -> tuple[float, ...]:
    """Log ratios of the other's time over this one's in rounds of the two alone, whichever was confirmed later: what slows the machine down slows
    both, and full attention's own noise is in neither. () where there are none."""
    rounds = sample.beside.get(other.proposal) or tuple(-ratio for ratio in other.beside.get(sample.proposal, ()))
    return rounds if len(rounds) > 1 else ()


def _accepted(p_values: Mapping[Hashable, float], of: int) -> set:
    """Holm, 1979, as if all the hypotheses of a study, `of`, had been tested: those to come count as failed."""
    padded = [*p_values.values(), *[1.0] * (of - len(p_values))]
    return {key for key, rejected in zip(p_values, holm(padded, LEVEL)) if rejected}


def _gains(sample: Sample) -> tuple[float, ...]:
    return tuple(sample.gains.values())


def _mean(values: tuple[float, ...]) -> float:
    return math.fsum(values) / len(values)
