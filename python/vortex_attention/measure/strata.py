"""The mean of paired differences over cells that are fixed (a benchmark's tasks at each length), each of which weighs the same however many questions
it was asked. What differs between tasks is no chance, only what differs between the questions of one is. Questions about one document, and one question
at several lengths, are one cluster. A cell that a single cluster was asked in tells nothing of its spread: there the whole difference counts as chance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from scipy import special

from .statistics import Interval


@dataclass(frozen=True)
class Stratified:
    """center: the mean over cells of their means. error: its standard error. freedom: degrees of freedom of the error (Satterthwaite, 1946), infinite
    where nothing differs. clusters, differing: how many there are, and in how many of them the arm and its baseline differ."""

    center: float
    error: float
    freedom: float
    clusters: int
    differing: int

    def interval(self, level: float = 0.95) -> Interval:
        """Student's t."""
        half = self.error * _quantile(self.freedom, 0.5 + level / 2) if self.error else 0.0
        return Interval(self.center, self.center - half, self.center + half, self.clusters)

    def p_at_most(self, bound: float) -> float:
        """One-sided p-value of "the mean is at most `bound`"."""
        if not self.error:
            return 0.0 if self.center > bound else 1.0
        return float(_tail(self.freedom, (self.center - bound) / self.error))


def _quantile(freedom: float, share: float) -> float:
    return float(special.ndtri(share) if math.isinf(freedom) else special.stdtrit(freedom, share))


def _tail(freedom: float, t: float) -> float:
    return float(special.ndtr(-t) if math.isinf(freedom) else special.stdtr(freedom, -t))


def stratified(
    values: Sequence[float], cells: Sequence[Hashable], clusters: Sequence[Hashable], strata: Sequence[Hashable]
) -> Stratified:
    """values: paired differences [n], with the cell, the cluster and the stratum of each, [n] likewise. Cells and clusters lie in one stratum each."""
    if not len(values) == len(cells) == len(clusters) == len(strata) or not len(values):
        raise ValueError(
            f"stratified: a cell, a cluster and a stratum for each value; {len(values)} values, {len(cells)}, {len(clusters)} and {len(strata)} came"
        )
    of: dict[Hashable, Hashable] = {}  # strata of cells and clusters
    rows: dict[Hashable, list[int]] = {}
    for row, (cell, cluster, stratum) in enumerate(zip(cells, clusters, strata)):
        rows.setdefault(cell, []).append(row)
        for kind, name in (("cell", cell), ("cluster", cluster)):
            if of.setdefault((kind, name), stratum) != stratum:
                raise ValueError(f"stratified: a {kind} in one stratum; {name} lies in {of[kind, name]} and {stratum}")
    parts: dict[Hashable, float] = dict.fromkeys(clusters, 0.0)  # a cluster's part of the error
    center = 0.0
    for cell, mine in rows.items():
        size, weight = len({clusters[row] for row in mine}), 1 / (len(rows) * len(mine))
        mean = math.fsum(float(values[row]) for row in mine) / len(mine)
        center += mean / len(rows)
        known, wider = (mean, math.sqrt(size / (size - 1))) if size > 1 else (0.0, 1.0)
        for row in mine:
            parts[clusters[row]] += weight * wider * (float(values[row]) - known)
    squares: dict[Hashable, list[float]] = {}
    for cluster, part in parts.items():
        squares.setdefault(of["cluster", cluster], []).append(part**2)
    whole = math.fsum(map(math.fsum, squares.values()))
    below = math.fsum(math.fsum(found) ** 2 / max(1, len(found) - 1) for found in squares.values())
    differing = {cluster for value, cluster in zip(values, clusters) if value}
    return Stratified(center, math.sqrt(whole), whole**2 / below if below else math.inf, len(parts), len(differing))
