"""How a study's frontier grew: the hypervolume after every flow that was measured, with its uncertainty. Measures nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frontier import Measured, _draw_gains, _draw_ratios, _hypervolume, _merged


@dataclass(frozen=True)
class Growth:
    """Hypervolume (nat × log speed) of the flows up to and with `key`: mean and 95 % interval over the draws."""

    key: str
    center: float
    low: float
    high: float


def growth(measured: list[Measured], *, draws: int = 500, seed: int = 0, worst_gain: float = -3.0) -> list[Growth]:
    """One entry for each point, in the order of `measured`; a flow that chooses the same pages as an earlier one adds none.

    Items are resampled with one draw for all flows, as on the frontier, so the curve never falls within a draw.
    """
    points = _merged(measured)
    if not points:
        return []
    rng = np.random.default_rng(seed)
    gains, ratios = _draw_gains(points, draws, rng), _draw_ratios(points, draws, rng)
    kept: list[int] = []
    found = []
    for index, (point, _) in enumerate(points):
        kept.append(index)
        area = _hypervolume(gains[:, kept], ratios[:, kept], worst_gain)
        low, high = np.percentile(area, [2.5, 97.5])
        found.append(Growth(point.key, float(area.mean()), float(low), float(high)))
        kept = [i for i in kept if not _always_dominated(i, kept, gains, ratios)]  # these never count again
    return found


def _always_dominated(i: int, kept: list[int], gains: np.ndarray, ratios: np.ndarray) -> bool:
    """One flow is at least as good as flow i on both in every draw."""
    return any(j != i and bool(((gains[:, j] >= gains[:, i]) & (ratios[:, j] > ratios[:, i])).all()) for j in kept)
