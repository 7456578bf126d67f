"""Intervals for paired measurements. All intervals are two-sided at 95 % unless `level` says otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval and the number of observations behind it."""

    center: float
    low: float
    high: float
    count: int

    def to_json(self) -> dict:
        return {"center": self.center, "low": self.low, "high": self.high, "count": self.count}


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean with Student's t-interval; one value has an infinite interval, none is refused."""
    if not values:
        raise ValueError("mean_interval: at least one value is required")
    count = len(values)
    center = math.fsum(values) / count
    if count == 1:
        return Interval(center, -math.inf, math.inf, 1)
    variance = math.fsum((value - center) ** 2 for value in values) / (count - 1)
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * math.sqrt(variance / count)
    return Interval(center, center - half, center + half, count)


def ratio_interval(baseline: Sequence[float], candidate: Sequence[float], level: float = 0.95) -> Interval:
    """baseline ÷ candidate of paired positive times: a t-interval on the logarithms of the ratios, mapped back."""
    if len(baseline) != len(candidate):
        raise ValueError(f"ratio_interval: pairs are required; {len(baseline)} and {len(candidate)} values came")
    logs = mean_interval([math.log(b / c) for b, c in zip(baseline, candidate)], level)
    return Interval(math.exp(logs.center), math.exp(logs.low), math.exp(logs.high), logs.count)


def proportion_interval(successes: int, count: int, level: float = 0.95) -> Interval:
    """Share of successes with Wilson's score interval (Wilson, 1927)."""
    if not 0 <= successes <= count or count == 0:
        raise ValueError(f"proportion_interval: 0 ≤ successes ≤ count, count > 0; {successes} of {count} came")
    z = float(stats.norm.ppf(0.5 + level / 2))
    share = successes / count
    scale = 1 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), count)


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
