"""How the means of two flows differ, in speed and in accuracy: what claims and comparisons are made of. Student's test where the two were
measured together, Welch's where each was measured by itself. What may be claimed of it is claims.py's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from ..measure.campaign import batch_means


@dataclass(frozen=True)
class Difference:
    """One flow's mean minus another's. error: its standard error, infinite where too few values tell; freedom: degrees of it."""

    center: float
    error: float
    freedom: float

    def p(self, above: float = 0.0) -> float:
        """One-sided p-value of the hypothesis that it is at most `above`."""
        if math.isinf(self.error):
            return 1.0
        if self.error <= 1e-15 * max(1.0, abs(self.center)):
            return 0.0 if self.center > above else 1.0
        return float(stats.t.sf((self.center - above) / self.error, self.freedom))

    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval."""
        if math.isinf(self.error):
            return -math.inf, math.inf
        half = self.error * float(stats.t.ppf(0.975, self.freedom)) if self.error else 0.0
        return self.center - half, self.center + half


def beside(log_ratios: Sequence[float]) -> Difference:
    """In log time, by rounds of the two alone. Rounds one after another are alike, so it is their batches that count."""
    return _together(batch_means(log_ratios))


def faster(a: Sequence[float], b: Sequence[float]) -> Difference:
    """In log time, by rounds of each beside full attention, in batches too."""
    return _apart(batch_means(a), batch_means(b))


def more_accurate(a: Mapping[str, float], b: Mapping[str, float]) -> Difference:
    """In nat beside full attention, by item: on the items that both answered, where there are two of them; else of each on its own."""
    shared = sorted(a.keys() & b.keys())
    if len(shared) > 1:
        return _together([a[item] - b[item] for item in shared])
    return _apart(list(a.values()), list(b.values()))


def _together(values: Sequence[float]) -> Difference:
    error = math.sqrt(_variance(values) / len(values)) if len(values) > 1 else math.inf
    return Difference(_mean(values), error, len(values) - 1)


def _apart(a: Sequence[float], b: Sequence[float]) -> Difference:
    difference = _mean(a) - _mean(b)
    if min(len(a), len(b)) < 2:
        return Difference(difference, math.inf, 0)
    terms = [_variance(values) / len(values) for values in (a, b)]
    if sum(terms) == 0.0:
        return Difference(difference, 0.0, len(a) + len(b) - 2)
    freedom = sum(terms) ** 2 / sum(term**2 / (len(values) - 1) for term, values in zip(terms, (a, b)))
    return Difference(difference, math.sqrt(sum(terms)), freedom)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    center = _mean(values)
    return math.fsum((value - center) ** 2 for value in values) / (len(values) - 1)
