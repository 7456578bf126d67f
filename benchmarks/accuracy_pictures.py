"""SVG pictures of docs/accuracy.md: the frontier of accuracy and speed, and KL along a long answer. Nothing outside is needed to see them; they
read without colours too (shapes, dashes and names). Called by accuracy_tables.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 520, 64, 24, 62, 56
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe and Ito's
DASHES = ("none", "7 3", "2 3")


class Frame:
    """Axes with their grid; x and y map values to places. log: of the axis across."""

    def __init__(
        self,
        title: str,
        said: str,
        across: Sequence[float],
        up: Sequence[float],
        labels: tuple[str, str],
        log: bool = False,
    ):
        self.across, self.up, self.log = across, up, log
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="12" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
            f'<text x="{LEFT}" y="42" fill="#555">{escape(said)}</text>',
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(labels[0])}</text>',
            f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(labels[1])}</text>',
        ]
        for value in across:
            place = self.x(value)
            self.parts.append(
                f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>'
            )
            self.text(place, HEIGHT - BOTTOM + 18, f"{value:,g}", anchor="middle")
        for value in up:
            place = self.y(value)
            self.parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}" stroke="#e4e4e4"/>'
            )
            self.text(LEFT - 8, place + 4, f"{value:g}".replace("-", "−"), anchor="end")

    def x(self, value: float) -> float:
        low, high = self.across[0], self.across[-1]
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.up[0], self.up[-1]
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (min(max(value, low), high) - low) / (high - low)

    def text(self, x: float, y: float, text: str, anchor: str = "start", colour: str = "#222") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" paint-order="stroke" stroke="white" stroke-width="3">{escape(text)}</text>'
        )

    def svg(self) -> str:
        return "\n".join([*self.parts, "</svg>"]) + "\n"


def ticks(low: float, high: float, most: int = 9) -> list[float]:
    """Round values from at or below `low` to at or above `high`."""
    high = max(high, low + 1e-3)
    step = next(
        step
        for power in range(-4, 7)
        for step in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
        if (high - low) / step <= most - 2
    )
    first = math.floor(low / step + 1e-9)
    last = first
    while last * step < high - 1e-9:
        last += 1
    return [round(number * step, 10) for number in range(first, last + 1)]


def beside_each_other(frame: Frame, points: Sequence[tuple]) -> list[float]:
    """Heights of the names: those of points that stand side by side are kept apart."""
    places = [frame.y(loss[0]) + 4 for _, _, loss, _ in points]
    low = [i for i, (_, _, loss, _) in enumerate(points) if loss[0] < frame.up[0]]
    for number, here in enumerate(low):  # at the foot, one above the other
        places[here] = HEIGHT - BOTTOM - 4 - 13 * number
    order = sorted((i for i in range(len(points)) if i not in low), key=lambda i: places[i])
    spans = [(frame.x(value) - 6, frame.x(value) + 24 + 7 * len(name)) for name, value, _, _ in points]
    for turn, here in enumerate(order):

        def collides(before: int, here: int = here) -> bool:
            side_by_side = spans[before][0] < spans[here][1] and spans[here][0] < spans[before][1]
            return side_by_side and abs(places[here] - places[before]) < 12.5

        while any(collides(before) for before in order[:turn]):
            places[here] += 1.0
    return places


def frontier_svg(
    title: str,
    said: str,
    points: Sequence[tuple[str, float, tuple[float, float, float], bool]],
    *,
    margin: float,
    across: str,
    less: bool = False,
    lowest: float = -14.0,
) -> str:
    """points: name, what it costs or gives, (center, low, high) of the loss in points, whether it is a control. across: the label of what it costs or gives; less: less
    of it is better, and its axis is logarithmic. What lies below `lowest` stands at the foot with its figure. Arms that no flow beats in both are joined by a
    line; controls are not."""
    shown = [value for _, _, loss, _ in points for value in loss if value >= lowest]
    values = [value for _, value, _, _ in points]
    grid = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100]
    if less:
        first = max(i for i, mark in enumerate(grid) if mark <= min(values) or i == 0)
        axis = grid[first : next(i for i, mark in enumerate(grid) if mark >= max(values) * 1.2 or mark == 100) + 1]
    else:
        axis = ticks(min([1.0, *values]), max(values) * 1.08)
    up = ticks(max(lowest, min(shown, default=-1.0)), max([1.0, *shown]))
    frame = Frame(title, said, axis, up, (across, "points of RULER's average beside full attention"), log=less)
    foot, right = frame.up[0], frame.across[-1]
    frame.parts.append(f'<rect x="{LEFT}" width="{WIDTH - LEFT - RIGHT}" y="{frame.y(frame.up[-1]):.1f}" height="{frame.y(-margin) - frame.y(frame.up[-1]):.1f}" '
                       'fill="#009E73" opacity="0.08"/>')  # fmt: skip
    frame.parts.append(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{frame.y(0):.1f}" y2="{frame.y(0):.1f}" stroke="#222"/>'
    )
    frame.text(
        LEFT + 6, frame.y(-margin) - 4, f"at most {margin:g} point{'s' if margin != 1 else ''} lost", colour="#00694d"
    )
    sign = -1 if less else 1
    flows = [(sign * value, loss[0]) for _, value, loss, control in points if not control]
    best = [point for point in sorted(flows) if not any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in flows)]  # fmt: skip
    line = " ".join(f"{frame.x(sign * x):.1f},{frame.y(y):.1f}" for x, y in best)
    frame.parts.append(
        f'<polyline points="{line}" fill="none" stroke="#0072B2" stroke-width="1.5" stroke-dasharray="6 4"/>'
    )
    families = list(dict.fromkeys(name.split("@")[0] for name, _, _, control in points if not control))
    places, marks_on_top = beside_each_other(frame, points), []
    for (name, speed, (center, low, high), control), place in zip(points, places):
        x, y = frame.x(speed), frame.y(center)
        colour = "#777" if control else COLOURS[families.index(name.split("@")[0]) % len(COLOURS)]
        if high > foot:
            frame.parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.y(low):.1f}" y2="{frame.y(high):.1f}" stroke="{colour}" opacity="0.45"/>'
            )
        mark = (
            f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="white" stroke="{colour}"/>'
            if control
            else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
        )
        marks_on_top.append(mark)
        end = x + 9
        if abs(place - 4 - y) > 3:  # its name stands elsewhere
            end = x + 22
            frame.parts.append(
                f'<line x1="{x + 5:.1f}" x2="{end - 2:.1f}" y1="{y:.1f}" y2="{place - 4:.1f}" stroke="#bbb"/>'
            )
        said_of = name if center >= foot else f"{name} ({center:+.0f})".replace("-", "−")
        side = ("start", end) if end + 7 * len(said_of) < frame.x(right) else ("end", x - 9)
        frame.text(side[1], place, said_of, anchor=side[0], colour=colour)
    frame.parts += marks_on_top
    return frame.svg()


def drift_svg(result: dict) -> str:
    """KL of each arm by position: on its own KV (thick), and of the same steps on full attention's KV (thin). result: of the suite drift."""
    arms = [arm for arm in result["arms"] if arm["name"] != "full" and arm["curves"]]
    positions = arms[0]["curves"]["positions"]
    most = max(max(arm["curves"]["kl_curve"] + arm["curves"]["kl_dense_curve"]) for arm in arms)
    frame = Frame(f"KL to full attention along a long answer, {len(result['items'])} texts", "thick: on the arm's own keys and values; thin: the same step on full attention's",
                  ticks(0.0, max(positions)), ticks(0.0, most), ("tokens", "KL, nats"))  # fmt: skip
    for number, arm in enumerate(arms):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        for key, width in (("kl_curve", 2.4), ("kl_dense_curve", 0.9)):
            line = " ".join(
                f"{frame.x(at):.1f},{frame.y(value):.1f}" for at, value in zip(positions, arm["curves"][key])
            )
            frame.parts.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"/>'
            )
        frame.parts.append(f'<line x1="{LEFT + 14}" x2="{LEFT + 44}" y1="{TOP + 16 + 18 * number}" y2="{TOP + 16 + 18 * number}" stroke="{colour}" '
                           f'stroke-width="2.4" stroke-dasharray="{dash}"/>')  # fmt: skip
        frame.text(LEFT + 52, TOP + 20 + 18 * number, arm["name"], colour=colour)
    return frame.svg()
