"""A heat map as one SVG: rows by columns of numbers, the colour and the number in each cell. Nothing outside is needed to see it; its scale
runs from dark to light, so it is read without colours as well. Text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, LEFT, TOP, FOOT = 960, 88, 64, 34
_STOPS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))  # dark to light


def colour(share: float) -> str:
    """0: dark, 1: light."""
    place = min(max(share, 0.0), 1.0) * (len(_STOPS) - 1)
    at = min(int(place), len(_STOPS) - 2)
    part = place - at
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(_STOPS[at], _STOPS[at + 1]))


def heat_svg(
    title: str,
    said: str,
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    digits: int = 2,
    low: float | None = None,
    high: float | None = None,
) -> str:
    """values: [rows][columns], nan: an empty cell. said: the line under the title. low, high: of the scale, those of the values when not given."""
    known = [value for row in values for value in row if math.isfinite(value)]
    low = min(known, default=0.0) if low is None else low
    high = max(known, default=1.0) if high is None else high
    span = (high - low) or 1.0
    wide, tall = (WIDTH - LEFT - 12) / max(len(columns), 1), max(12, min(22, 640 // max(len(rows), 1)))
    height = TOP + FOOT + tall * len(rows)
    numbers = wide >= 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
        f'<text x="{LEFT}" y="42" fill="#444">{escape(said)}; dark {low:.{digits}f}, light {high:.{digits}f}</text>',
    ]
    for number, (row, name) in enumerate(zip(values, rows)):
        y = TOP + number * tall
        parts.append(f'<text x="{LEFT - 6}" y="{y + tall / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        for place, value in enumerate(row):
            if not math.isfinite(value):
                continue
            share = (value - low) / span
            x = LEFT + place * wide
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{tall}" fill="{colour(share)}"/>')
            if numbers:
                ink = "#ffffff" if share < 0.55 else "#000000"
                parts.append(
                    f'<text x="{x + wide / 2:.1f}" y="{y + tall / 2 + 4:.1f}" text-anchor="middle" font-size="9" fill="{ink}">'
                    f"{value:.{digits}f}</text>"
                )
    every = max(1, math.ceil(len(columns) * 34 / (WIDTH - LEFT)))
    for place, name in enumerate(columns):
        if place % every == 0:
            x = LEFT + (place + 0.5) * wide
            parts.append(
                f'<text x="{x:.1f}" y="{TOP + tall * len(rows) + 16}" text-anchor="middle">{escape(name)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"
