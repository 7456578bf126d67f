"""Which pages a flow reads, as one SVG: a row for each KV head of each layer, a column for each page. Nothing outside is needed to see it.

Refuses nothing: text that comes from flows is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, LEFT, TOP, BOTTOM, GAP = 960, 64, 64, 40, 3
CHOSEN, PINNED, NEEDLE, GROUND = "#0072B2", "#8c8c8c", "#D55E00", "#f2f2f2"


def pages_svg(
    title: str,
    lists: Sequence[Sequence[Sequence[int]]],
    pages: int,
    pinned: tuple[int, int],
    page_size: int,
    needle: int | None = None,
) -> str:
    """lists: [layers][kv_heads] ascending page numbers. pinned: pages attended at the start and at the end whatever the score.
    needle: the page to mark."""
    heads = max(len(layer) for layer in lists)
    unit = max(2, min(8, 640 // (len(lists) * heads)))
    step = (WIDTH - LEFT - 12) / pages
    height = TOP + BOTTOM + len(lists) * (heads * unit + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
        f'<text x="{LEFT}" y="42" fill="#444">a column a page of {page_size} tokens, a row a KV head; '
        f'<tspan fill="{CHOSEN}">chosen</tspan>, <tspan fill="{PINNED}">first and last</tspan>'
        + (f', <tspan fill="{NEEDLE}">the needle</tspan>' if needle is not None else "")
        + "</text>",
    ]
    first, last = pinned
    paths = {CHOSEN: [], PINNED: []}
    top = TOP
    for number, layer in enumerate(lists):
        band = heads * unit
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{step * pages:.1f}" height="{band}" fill="{GROUND}"/>')
        if number % max(1, -(-12 // (band + GAP))) == 0:
            parts.append(f'<text x="{LEFT - 6}" y="{top + band / 2 + 4:.1f}" text-anchor="end">layer {number}</text>')
        for head, chosen in enumerate(layer):
            for start, stop in runs(chosen):
                for low, high, colour in (
                    (start, min(stop, first), PINNED),
                    (max(start, first), min(stop, pages - last), CHOSEN),
                    (max(start, pages - last), stop, PINNED),
                ):
                    if low < high:
                        x, y, wide = LEFT + low * step, top + head * unit, (high - low) * step
                        paths[colour].append(f"M{x:.1f} {y}h{wide:.1f}v{unit}h-{wide:.1f}z")
        top += band + GAP
    parts += [f'<path fill="{colour}" d="{"".join(path)}"/>' for colour, path in paths.items() if path]
    if needle is not None:
        x = LEFT + (needle + 0.5) * step
        parts.append(
            f'<path d="M{x:.1f} {TOP - 11}v8M{x:.1f} {top}v5" stroke="{NEEDLE}" stroke-width="{max(step, 2):.1f}"/>'
        )
    for share in (0, 0.25, 0.5, 0.75, 1):
        page = round(share * (pages - 1))
        x = LEFT + (page + 0.5) * step
        parts.append(f'<text x="{x:.1f}" y="{top + 16}" text-anchor="middle">page {page}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """[0, 1, 2, 7] → [(0, 3), (7, 8)]."""
    out: list[tuple[int, int]] = []
    for number in numbers:
        if out and out[-1][1] == number:
            out[-1] = (out[-1][0], number + 1)
        else:
            out.append((number, number + 1))
    return out
