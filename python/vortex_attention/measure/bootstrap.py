"""Paired differences when items come in clusters (the tries of one problem, the questions of one document): the cluster is what
is resampled, because its items are not independent (Miller, 2024, arXiv 2411.00640). Refuses fewer than two clusters."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from scipy import stats

from .statistics import Interval

RESAMPLES = 2000
FEW = 5  # clusters of which resamples say too little: two have but one resample that is not one of them alone


def cluster_sums(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values and number of items of each cluster, [clusters] both, in order of first appearance."""
    if len(values) != len(clusters):
        raise ValueError(
            f"cluster_sums: a cluster for each value is required; {len(values)} values and {len(clusters)} clusters came"
        )
    order = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    index = np.fromiter((order[name] for name in clusters), dtype=np.int64, count=len(clusters))
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64), minlength=len(order))
    return sums, np.bincount(index, minlength=len(order)).astype(np.float64)


def cluster_error(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Standard error of the mean over items, Σ sums ÷ Σ counts, along the last axis: the linearised ratio estimator."""
    clusters = sums.shape[-1]
    mean = sums.sum(-1, keepdims=True) / counts.sum(-1, keepdims=True)
    residual = sums - mean * counts
    return np.sqrt(clusters / (clusters - 1) * (residual**2).sum(-1)) / counts.sum(-1)


def paired_bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean of paired differences with a studentised (bootstrap-t) interval over clusters; clusters None: each item is its own.
    Of fewer than FEW clusters it is Student's t-interval. The seed fixes the resamples, so equal data give equal intervals. Values that are all equal have an interval of no width."""
    sums, counts = cluster_sums(values, range(len(values)) if clusters is None else clusters)
    if len(sums) < 2:
        raise ValueError(f"paired_bootstrap: at least two clusters are required; {len(sums)} came")
    center = float(sums.sum() / counts.sum())
    error = float(cluster_error(sums, counts))
    if error <= 1e-15 * max(1.0, abs(center)):
        return Interval(center, center, center, len(sums))
    if len(sums) < FEW:
        half = float(stats.t.ppf(0.5 + level / 2, len(sums) - 1)) * error
        return Interval(center, center - half, center + half, len(sums))
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(sums), size=(resamples, len(sums)))
    means = sums[drawn].sum(-1) / counts[drawn].sum(-1)
    errors = cluster_error(sums[drawn], counts[drawn])
    # A resample of one cluster alone has no spread; it stands for no t.
    spread = errors > 1e-12 * error
    t = (means[spread] - center) / errors[spread]
    low, high = np.quantile(t, [0.5 + level / 2, 0.5 - level / 2])
    return Interval(center, center - float(low) * error, center - float(high) * error, len(sums))
