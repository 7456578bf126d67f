"""Searches compared: agents with several seeds each on one laboratory, and the hypervolume of what they found by proposal.

Every arm begins with the ready flows, makes the same number of proposals, and passes the same gates. The last word is on texts that no arm has
seen: what the final frontiers are worth there. A quality of the search, not of a flow: nothing here confirms one.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from ..ledger import Ledger
from . import agents
from .campaign import Campaign
from .frontier import OUT, Measured
from .study import Study

WORST = -0.4  # gain where hypervolume begins, about that of random pages
ARMS = {
    "built-in": ("built-in", "edits"),
    "built-in, tpe": ("built-in", "tpe"),
    "random programs": ("random", "edits"),
    "knobs alone": ("knobs", "edits"),
    "knobs alone, tpe": ("knobs", "tpe"),
}


@dataclass(frozen=True)
class Searched:
    """One arm with one seed. curve: hypervolume after each proposal, the ready flows first; held_out: of the final frontier on texts that
    nobody saw; found: points of the final frontier that are no ready flow."""

    arm: str
    seed: int
    curve: tuple[float, ...]
    held_out: float
    proposals: int
    frontier: int
    found: int


def search(
    arm: str, seed: int, laboratory, rounds: int, variants: int = 4, environment: dict | None = None
) -> Searched:
    name, sampler = ARMS[arm]
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "arm.sqlite") as ledger:
        study = Study.open(ledger, arm, {"seed": seed})
        campaign = Campaign(study, laboratory, environment=environment, agent=agents.make(name, seed, sampler=sampler))
        campaign.run(rounds, variants, seed)
        proposals, points = study.proposals(), campaign.points()
        curve = curve_of(study.measured(), [proposal.id for proposal in proposals])
        standing = [int(point.key) for point in points if point.state != OUT]
        by_id = {proposal.id: proposal for proposal in proposals}
        fresh = []
        for id in standing:
            program = study.program(by_id[id])
            results = [result for batch in laboratory.accuracy(program, "confirm") for result in batch]
            full, flow = next(iter(laboratory.speed(program, 1)))[:2]
            fresh.append((sum(result.flow.log_probability - result.full.log_probability for result in results) / len(results),
                          math.log(full.seconds / flow.seconds)))  # fmt: skip
        return Searched(arm, seed, tuple(curve), hypervolume(fresh), len(proposals), len(standing),
                        sum(by_id[id].author != "ready" for id in standing))  # fmt: skip


def curve_of(measured: list[Measured], order: list[int]) -> list[float]:
    """Hypervolume of what was measured up to each proposal."""
    found = {
        int(one.key): (float(np.mean(list(one.gains.values()))), float(np.mean(one.log_ratios))) for one in measured
    }
    points, curve = [], []
    for id in order:
        points += [found[id]] if id in found else []
        curve.append(hypervolume(points))
    return curve


def hypervolume(points: list[tuple[float, float]]) -> float:
    """Area over (WORST, speed 1) that points of (gain, log speed) cover."""
    area, best = 0.0, 0.0
    for gain, log_speed in sorted(points, key=lambda point: -point[1]):
        higher = max(gain - WORST, 0.0) - best
        if higher > 0:
            area += higher * max(log_speed, 0.0)
            best += higher
    return area


def compared(found: list[Searched], base: str = "random programs") -> list[dict]:
    """A row an arm: mean and 95 % interval over seeds at the start, half-way, the end and on held-out texts, and the end's difference to
    `base`, paired by seed."""
    rows = []
    for arm in dict.fromkeys(one.arm for one in found):
        mine = {one.seed: one for one in found if one.arm == arm}
        other = {one.seed: one for one in found if one.arm == base}
        shared = sorted(mine.keys() & other.keys())
        rows.append({
            "arm": arm, "seeds": len(mine),
            "start": interval([one.curve[7] for one in mine.values()]),
            "half": interval([one.curve[len(one.curve) // 2] for one in mine.values()]),
            "end": interval([one.curve[-1] for one in mine.values()]),
            "held_out": interval([one.held_out for one in mine.values()]),
            "ahead": interval([mine[seed].held_out - other[seed].held_out for seed in shared]) if arm != base and len(shared) > 1 else None,
            "found": sum(one.found for one in mine.values()) / len(mine)})  # fmt: skip
    return rows


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and the t-interval of 95 %; of one value, three times it."""
    mean = sum(values) / len(values)
    if len(values) < 2 or max(values) == min(values):
        return mean, mean, mean
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    return mean, float(low), float(high)


def picture(found: list[Searched], title: str) -> str:
    """SVG: the mean curve of each arm, its range over seeds behind it."""
    width, height, left, top, right, bottom = 760, 380, 60, 34, 170, 40
    colours = ("#1f5fa8", "#7a3fa0", "#b3541e", "#3c7d3c", "#a8327d")
    by_arm: dict[str, list[tuple[float, ...]]] = {}
    for one in found:
        by_arm.setdefault(one.arm, []).append(one.curve)
    longest = max(len(curve) for curves in by_arm.values() for curve in curves)
    low = min(curve[min(7, len(curve) - 1)] for curves in by_arm.values() for curve in curves) * 0.98
    high = max(curve[-1] for curves in by_arm.values() for curve in curves) * 1.02

    def x(n: float) -> float:
        return left + (width - left - right) * n / max(1, longest - 1)

    def y(value: float) -> float:
        return height - bottom - (height - top - bottom) * (max(value, low) - low) / max(1e-12, high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="18" font-size="13">{title}</text>',
        *(f'<line x1="{left}" x2="{width - right}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ddd"/><text x="{left - 6}" y="{y(v) + 4:.1f}" '
          f'text-anchor="end">{v:.3f}</text>' for v in np.linspace(low, high, 5)),
        *(f'<text x="{x(n):.1f}" y="{height - bottom + 18}" text-anchor="middle">{n + 1}</text>' for n in range(7, longest, max(1, longest // 6))),
        f'<text x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">proposals, the eight ready flows included</text>',
    ]  # fmt: skip
    for number, (arm, curves) in enumerate(by_arm.items()):
        colour, steps = colours[number % len(colours)], range(7, max(map(len, curves)))
        whole = [[curve[min(n, len(curve) - 1)] for curve in curves] for n in steps]
        band = [f"{x(n):.1f},{y(max(v)):.1f}" for n, v in zip(steps, whole)] + [
            f"{x(n):.1f},{y(min(v)):.1f}" for n, v in reversed(list(zip(steps, whole)))
        ]
        line = [f"{x(n):.1f},{y(sum(v) / len(v)):.1f}" for n, v in zip(steps, whole)]
        parts += [f'<polygon points="{" ".join(band)}" fill="{colour}" opacity="0.13"/>',
                  f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="2"/>',
                  f'<rect x="{width - right + 14}" y="{top + 22 * number}" width="12" height="12" fill="{colour}"/>',
                  f'<text x="{width - right + 32}" y="{top + 10 + 22 * number}">{arm}</text>']  # fmt: skip
    return "\n".join([*parts, "</svg>"]) + "\n"
