"""Decisions, each with the number it rests on. A claim of equal quality is a test of non-inferiority against a margin that was
stated before; the absence of a significant difference is never one. Looks before the end may only stop losers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from scipy import special, stats

from .bootstrap import cluster_error, cluster_sums, paired_bootstrap
from .statistics import Interval
from .strata import Stratified

NON_INFERIOR, INFERIOR, UNDECIDED = "non-inferior", "inferior", "undecided"


@dataclass(frozen=True)
class Verdict:
    """kind: non-inferior, inferior or undecided; the interval of the difference (arm − baseline) it follows from; margin > 0."""

    kind: str
    interval: Interval
    margin: float

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        return f"{self.kind}: {self.interval.center:+.3f} [{low:+.3f}, {high:+.3f}], margin −{self.margin:g}, {self.interval.count} clusters"


SEEN = 5  # clusters that must differ before their spread speaks for those not seen


def non_inferiority(
    differences: Sequence[float],
    margin: float,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    worst: float = 0.0,
) -> Verdict:
    """differences: arm − baseline, larger is better. Non-inferior: the interval lies above −margin; inferior: below it.
    worst: what an item may lose; when hardly any item differs, losses of that size in 3/n of the items not seen are
    allowed for (the rule of three), so that four equal answers prove nothing."""
    if not margin > 0:
        raise ValueError(f"non_inferiority: a margin above 0 is required; {margin} came")
    interval = paired_bootstrap(differences, clusters, level)
    sums, _ = cluster_sums(differences, range(len(differences)) if clusters is None else clusters)
    if worst and (sums != 0).sum() < SEEN:
        interval = replace(interval, low=interval.low - 3 * worst / len(sums))
    return Verdict(_kind(interval, margin), interval, margin)


def non_inferiority_over(found: Stratified, margin: float, level: float = 0.95, worst: float = 0.0) -> Verdict:
    """The same of a mean over fixed cells, by its t-interval."""
    if not margin > 0:
        raise ValueError(f"non_inferiority_over: a margin above 0 is required; {margin} came")
    interval = found.interval(level)
    if worst and found.differing < SEEN:
        interval = replace(interval, low=interval.low - 3 * worst / found.clusters)
    return Verdict(_kind(interval, margin), interval, margin)


def _kind(interval: Interval, margin: float) -> str:
    return NON_INFERIOR if interval.low > -margin else INFERIOR if interval.high < -margin else UNDECIDED


def mcnemar(baseline: Sequence[bool], arm: Sequence[bool]) -> float:
    """Two-sided exact p-value of equal pass rates of two arms on the same items (McNemar, 1947; the binomial test of the
    items on which they differ)."""
    if len(baseline) != len(arm):
        raise ValueError(f"mcnemar: pairs are required; {len(baseline)} and {len(arm)} outcomes came")
    lost = sum(a and not b for a, b in zip(baseline, arm))
    won = sum(b and not a for a, b in zip(baseline, arm))
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which hypotheses are rejected with the chance of any false rejection at most `level` (Holm, 1979). A NaN is not rejected."""
    certain = [1.0 if math.isnan(p) else p for p in p_values]
    order = sorted(range(len(certain)), key=lambda index: certain[index])
    rejected = [False] * len(p_values)
    for rank, index in enumerate(order):
        if certain[index] > level / (len(certain) - rank):
            break
        rejected[index] = True
    return rejected


def in_sequence(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which hypotheses of an order that was fixed before are rejected, each at the whole level, up to the first that is not: the chance of any false
    rejection is at most `level` (Maurer, Hothorn and Lehmacher, 1995). A NaN is not rejected."""
    rejected = [False] * len(p_values)
    for index, p in enumerate(p_values):
        if not p <= level:
            break
        rejected[index] = True
    return rejected


def one_sided_p(values: Sequence[float], above: float = 0.0, clusters: Sequence[Hashable] | None = None) -> float:
    """p-value of "the mean is at most `above`", by Student's t over clusters; clusters None: each value is its own."""
    sums, counts = cluster_sums(values, range(len(values)) if clusters is None else clusters)
    if len(sums) < 2:
        return 1.0
    mean, error = float(sums.sum() / counts.sum()), float(cluster_error(sums, counts))
    if error <= 1e-15 * max(1.0, abs(mean)):
        return 0.0 if mean > above else 1.0
    return float(special.stdtr(len(sums) - 1, (above - mean) / error))


def is_losing(differences: Sequence[float], margin: float = 0.0, level: float = 0.95, least: int = 4) -> bool:
    """A look before the end: whether the difference already lies below −margin with one-sided confidence `level`. It may stop
    an arm as a loser at any number of looks; as it never declares a winner, the error rate of the final test is not spent."""
    if len(differences) < least:
        return False
    return one_sided_p([-value for value in differences], margin) < 1 - level
