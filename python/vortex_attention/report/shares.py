"""Shares of pages read as one SVG: a row for each of something (a step, a KV head), a column a page, darker for a larger share. Nothing
outside is needed to see it, and it reads in print and without colour. Text that comes from flows is escaped."""

from __future__ import annotations

from html import escape

import numpy as np

WIDTH, LEFT, TOP, BOTTOM = 960, 74, 62, 40
# Cividis, light to dark: told apart by the colour-blind and in grey.
LEVELS = ((0.2, "#dccb6a"), (0.4, "#b0a473"), (0.6, "#7f7c75"), (0.8, "#4e576c"), (1.0, "#00224e"))
NEEDLE, GROUND = "#D55E00", "#f4f4f2"


def shares_svg(title: str, said: str, shares: np.ndarray, labels: dict[int, str], needle: int | None = None) -> str:
    """shares: [rows, pages] in 0 to 1. labels: row → text beside it. said: what a row and a shade are. needle: a page to mark."""
    rows, pages = shares.shape
    unit = max(2.0, min(9.0, 420 / rows))
    step = (WIDTH - LEFT - 12) / pages
    height = TOP + BOTTOM + rows * unit
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="system-ui, sans-serif" font-size="11" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        f'<text x="{LEFT}" y="38" fill="#444">{escape(said)}</text>',
        _key(),
        f'<rect x="{LEFT}" y="{TOP}" width="{step * pages:.1f}" height="{rows * unit:.1f}" fill="{GROUND}"/>',
    ]
    levels = np.digitize(shares, [1e-9] + [top + 1e-9 for top, _ in LEVELS[:-1]])  # 0: not read at all
    paths: dict[int, list[str]] = {number: [] for number in range(1, len(LEVELS) + 1)}
    for row in range(rows):
        y = TOP + row * unit
        edges = np.flatnonzero(np.diff(levels[row])) + 1
        for first, last in zip([0, *edges.tolist()], [*edges.tolist(), pages]):
            level = int(levels[row, first])
            if level:
                x, wide = LEFT + first * step, (last - first) * step
                paths[level].append(f"M{x:.1f} {y:.1f}h{wide:.1f}v{unit:.1f}h-{wide:.1f}z")
    parts += [f'<path fill="{LEVELS[level - 1][1]}" d="{"".join(path)}"/>' for level, path in paths.items() if path]
    parts += [
        f'<text x="{LEFT - 6}" y="{TOP + (row + 0.5) * unit + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        for row, text in _apart(labels, unit)
    ]
    bottom = TOP + rows * unit
    if needle is not None:
        x = LEFT + (needle + 0.5) * step
        parts.append(
            f'<path d="M{x:.1f} {TOP - 9}v7M{x:.1f} {bottom:.1f}v6" stroke="{NEEDLE}" stroke-width="{max(step, 2):.1f}"/>'
        )
    for share, anchor in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end")):
        page = round(share * (pages - 1))
        x = LEFT + (page + share) * step
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="{anchor}">page {page}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _apart(labels: dict[int, str], unit: float) -> list[tuple[int, str]]:
    """Those that do not run into the one above."""
    shown: list[tuple[int, str]] = []
    for row, text in sorted(labels.items()):
        if not shown or (row - shown[-1][0]) * unit >= 12:
            shown.append((row, text))
    return shown


def _key() -> str:
    """The shades and the largest share of each, at the right of the title."""
    wide, x = 34, WIDTH - 12 - 34 * len(LEVELS)
    return "".join(
        f'<rect x="{x + wide * index}" y="8" width="{wide}" height="9" fill="{colour}"/>'
        f'<text x="{x + wide * index + wide / 2}" y="28" text-anchor="middle" fill="#444">{100 * top:.0f}{" %" if top == 1 else ""}</text>'
        for index, (top, colour) in enumerate(LEVELS)
    )


def every(count: int, most: int, name: str) -> dict[int, str]:
    """Labels of `count` rows, at most `most` of them."""
    distance = max(1, -(-count // most))
    return {row: f"{name} {row}" for row in range(0, count, distance)}
