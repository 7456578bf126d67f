"""How much must be measured, said before it is. All sizes are for a t-test at the given level and power (normal approximation,
then one step for the t-quantile)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


def count_needed(
    effect: float, deviation: float, *, level: float = 0.95, power: float = 0.8, two_sided: bool = True
) -> int:
    """Independent units (clusters, blocks of four) with standard deviation `deviation` after which a true `effect` is found
    with probability `power`."""
    if not (effect > 0 and deviation >= 0):
        raise ValueError(
            f"count_needed: an effect above 0 and a deviation of at least 0 are required; {effect} and {deviation} came"
        )
    tail = 0.5 + level / 2 if two_sided else level
    count = 2.0
    for quantile in (stats.norm.ppf, lambda p: stats.t.ppf(p, max(1, math.ceil(count) - 1))):
        total = float(quantile(tail)) + float(stats.norm.ppf(power))
        count = max(2.0, (total * deviation / effect) ** 2)
    return math.ceil(count)


def items_for_margin(
    margin: float, deviation: float, *, truth: float = 0.0, level: float = 0.95, power: float = 0.8
) -> int:
    """Clusters after which an arm whose true difference is `truth` is shown non-inferior with probability `power`."""
    if not truth > -margin:
        raise ValueError(f"items_for_margin: a true difference above −{margin} is required; {truth} came")
    return count_needed(margin + truth, deviation, level=level, power=power)


def blocks_for_resolution(resolution: float, deviation: float, *, level: float = 0.95) -> int:
    """Rounds of A B B A until the interval of a speed ratio is ± `resolution` (0.01: one percent). deviation: of the logarithm
    of one round's ratio."""
    if not 0 < resolution < 1:
        raise ValueError(f"blocks_for_resolution: a share between 0 and 1 is required; {resolution} came")
    half, count = math.log1p(resolution), 2
    while float(stats.t.ppf(0.5 + level / 2, count - 1)) * deviation / math.sqrt(count) > half:
        count = max(count + 1, math.ceil(count * 1.02))
        if count > 1_000_000:
            raise ValueError(f"blocks_for_resolution: noise of {deviation} allows no resolution of {resolution}")
    return count


def resolution_of(blocks: int, deviation: float, *, level: float = 0.95) -> float:
    """The half width of the ratio's interval after so many rounds, as a share."""
    if blocks < 2:
        return math.inf
    return math.expm1(float(stats.t.ppf(0.5 + level / 2, blocks - 1)) * deviation / math.sqrt(blocks))


def effective_deviation(values: Sequence[float], stretch: int = 7) -> float:
    """The deviation that independent values would need for means over `stretch` consecutive ones to spread as these do: more than
    the plain one when a machine drifts."""
    values = np.asarray(values, dtype=np.float64)
    plain = float(values.std(ddof=1))
    if len(values) < 2 * stretch:
        return plain
    means = np.convolve(values, np.full(stretch, 1 / stretch), mode="valid")
    return max(plain, float(means.std(ddof=1)) * math.sqrt(stretch))
