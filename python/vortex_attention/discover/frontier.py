"""The frontier of measured flows, with probabilities instead of points.

Accuracy is the mean over items of a flow's log-probability of the answer minus full attention's on the same item (nat; 0 is as
good); speed is the mean over blocks of log(full attention's step time ÷ the flow's). Both are resampled: items with one draw for
all flows that saw them, so flows are compared on the same items, blocks by themselves. A flow is dominated in a draw when another
is at least as good on both and better on one. Flows that choose the same pages (equal `behaviour`) and answer alike are one point.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import UserError

IN, OUT, UNDECIDED = "in", "out", "undecided"
ALIKE = 1e-3  # nat: equal pages give equal bits on a CPU, nearly equal ones on a GPU


@dataclass(frozen=True)
class Measured:
    """One flow: gains[item] in nat beside full attention (by item key), log_ratios of its timed blocks."""

    key: str
    gains: dict[str, float]
    log_ratios: tuple[float, ...]
    behaviour: str = ""  # fingerprint of the pages it chooses; "": unknown
    shown: dict[str, float] = field(default_factory=dict)  # gains on items that all flows saw: twins have equal ones


@dataclass(frozen=True)
class Point:
    """A point of the frontier. Probabilities are over the draws; `twins` are keys that share the point."""

    key: str
    gain: float
    ratio: float
    gain_interval: tuple[float, float]  # 95 %
    ratio_interval: tuple[float, float]
    p_non_dominated: float
    p_accurate: float  # that its gain is at least -margin
    hypervolume_gain: float  # expected loss of hypervolume without it
    state: str
    twins: tuple[str, ...] = field(default=())

    def to_json(self) -> dict:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def frontier(
    measured: list[Measured],
    *,
    margin: float = 0.10,
    draws: int = 2000,
    seed: int = 0,
    worst_gain: float = -3.0,
    volume: bool = True,
) -> list[Point]:
    """Points by falling speed. margin: nat that a flow may lose and still count as accurate; worst_gain: where hypervolume begins.
    volume: whether hypervolume is asked for, which takes the longest; 0 if not.

    UserError when a flow has no item or no block.
    """
    points = _merged(measured)
    if not points:
        return []
    rng = np.random.default_rng(seed)
    gains, ratios = _draw_gains(points, draws, rng), _draw_ratios(points, draws, rng)
    alive = _non_dominated(gains, ratios)
    total = _hypervolume(gains, ratios, worst_gain) if volume else np.zeros(draws)
    gain_ends, ratio_ends = _intervals(gains), _intervals(np.exp(ratios))
    out = []
    for i, (one, twins) in enumerate(points):
        others = [j for j in range(len(points)) if j != i]
        here = alive[:, i]  # elsewhere nothing is lost without it
        lost = (
            (total[here] - _hypervolume(gains[here][:, others], ratios[here][:, others], worst_gain)).sum() / draws
            if volume and here.any()
            else 0.0
        )
        p = float(here.mean())
        out.append(
            Point(
                key=one.key,
                gain=float(np.mean(list(one.gains.values()))),
                ratio=float(np.exp(np.mean(one.log_ratios))),
                gain_interval=gain_ends[i],
                ratio_interval=ratio_ends[i],
                p_non_dominated=p,
                p_accurate=float((gains[:, i] >= -margin).mean()),
                hypervolume_gain=float(lost),
                state=IN if p >= 0.95 else OUT if p <= 0.05 else UNDECIDED,
                twins=twins,
            )
        )
    return sorted(out, key=lambda point: -point.ratio)


def _merged(measured: list[Measured]) -> list[tuple[Measured, tuple[str, ...]]]:
    """One entry a behaviour: items of all its flows averaged, blocks of all of them together. A flow that chooses the pages of another
    and answers otherwise is a point of its own, so that nobody's numbers get into those of an elite by its pages alone."""
    groups: dict[str, list[list[Measured]]] = {}
    for one in measured:
        if not one.gains or not one.log_ratios:
            raise UserError(
                "frontier",
                "a flow with items and timed blocks",
                f"{one.key} with {len(one.gains)} and {len(one.log_ratios)}",
                "measure it first",
            )
        alike = groups.setdefault(one.behaviour or f"\0{one.key}", [])
        group = next((group for group in alike if _answer_alike(group[0], one)), None)
        if group is None:
            alike.append([one])
        else:
            group.append(one)
    points = []
    for group in (group for alike in groups.values() for group in alike):
        gains: dict[str, list[float]] = {}
        for one in group:
            for item, gain in one.gains.items():
                gains.setdefault(item, []).append(gain)
        merged = Measured(
            group[0].key,
            {item: sum(values) / len(values) for item, values in gains.items()},
            tuple(ratio for one in group for ratio in one.log_ratios),
            group[0].behaviour,
            group[0].shown,
        )
        points.append((merged, tuple(one.key for one in group[1:])))
    return points


def _answer_alike(a: Measured, b: Measured) -> bool:
    return all(abs(a.shown[item] - b.shown[item]) <= ALIKE for item in a.shown.keys() & b.shown.keys())


def _draw_gains(points: list[tuple[Measured, tuple[str, ...]]], draws: int, rng: np.random.Generator) -> np.ndarray:
    """[draws, points]: means over resampled items, one weighting of the items for all points (Bayesian bootstrap, Rubin 1981)."""
    place = {item: index for index, item in enumerate(sorted({item for point, _ in points for item in point.gains}))}
    table = np.full((len(points), len(place)), np.nan)  # [points, items]
    for row, (point, _) in zip(table, points):
        row[[place[item] for item in point.gains]] = list(point.gains.values())
    weights = rng.exponential(size=(draws, len(place)))
    there = ~np.isnan(table)
    return (weights @ np.where(there, table, 0.0).T) / (weights @ there.T.astype(float))


def _draw_ratios(points: list[tuple[Measured, tuple[str, ...]]], draws: int, rng: np.random.Generator) -> np.ndarray:
    columns = []
    for point, _ in points:
        logs = np.array(point.log_ratios)
        weights = rng.exponential(size=(draws, len(logs)))
        columns.append((weights @ logs) / weights.sum(axis=1))
    return np.stack(columns, axis=1)


def _non_dominated(gains: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """[draws, points]"""
    alive = np.ones(gains.shape, dtype=bool)
    for i in range(gains.shape[1]):
        g, r = gains[:, [i]], ratios[:, [i]]
        alive[:, i] = ~(((gains >= g) & (ratios >= r) & ((gains > g) | (ratios > r))).any(axis=1))
    return alive


def _hypervolume(gains: np.ndarray, ratios: np.ndarray, worst_gain: float) -> np.ndarray:
    """[draws]: the area over (worst_gain, speed 1) that the points cover, in nat × log speed."""
    area = np.zeros(gains.shape[0])
    if gains.shape[1] == 0:
        return area
    order = np.argsort(-ratios, axis=1)
    g = np.take_along_axis(np.maximum(gains - worst_gain, 0.0), order, axis=1)
    r = np.take_along_axis(np.maximum(ratios, 0.0), order, axis=1)
    best = np.zeros(gains.shape[0])
    for i in range(g.shape[1]):
        higher = np.maximum(g[:, i] - best, 0.0)
        area += higher * r[:, i]
        best = np.maximum(best, g[:, i])
    return area


def _intervals(draws: np.ndarray) -> list[tuple[float, float]]:
    """95 % of each point; draws: [draws, points]."""
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return list(zip(low.tolist(), high.tolist()))
