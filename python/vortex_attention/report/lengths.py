"""Accuracy over what the lengths of several runs of one suite show together: by length and depth of the needle, by length alone. Only
differences to full attention on the same items, so lengths may be compared."""

from __future__ import annotations

import html
import json
from collections import defaultdict

import plotly.graph_objects as go

from ..ledger import Ledger
from .figures import _layout

DEPTHS = 6  # columns of the map


def differences(ledger: Ledger, run: str, result: dict) -> dict[str, list[tuple[float, float]]]:
    """Of each arm (depth in 0 to 1, first metric minus full attention's) of every item; empty when the items have no depth."""
    depths = {item["name"]: item["depth"] for item in result["items"] if isinstance(item.get("depth"), (int, float))}
    if not depths:
        return {}
    metric = result["metrics"][0]["name"]
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for row in ledger.rows(
        "SELECT a.name, a.role, o.item, o.scores FROM outcome o JOIN arm a ON a.id = o.arm WHERE a.run = ? ORDER BY a.id",
        (run,),
    ):
        score = json.loads(row["scores"]).get(metric)
        if row["item"] in depths and isinstance(score, (int, float)):
            values["" if row["role"] == "full" else row["name"]][row["item"]] = float(score)
    full = values.pop("", {})
    return {
        name: [(depths[item], value - full[item]) for item, value in found.items() if item in full]
        for name, found in values.items()
    }


def by_length_and_depth(sections: list[dict]) -> go.Figure | None:
    """A row an arm and length, a column a part of the depth: the mean difference to full attention. None when no run has depths."""
    drawn = sorted((section for section in sections if section.get("depths")), key=_length)
    if not drawn:
        return None
    metric = drawn[0]["kept"]["metrics"][0]
    arms = list(dict.fromkeys(name for section in drawn for name in section["depths"]))
    rows, values = [], []
    for name in arms:
        for section in drawn:
            cells: list[list[float]] = [[] for _ in range(DEPTHS)]
            for depth, difference in section["depths"].get(name, []):
                cells[min(int(depth * DEPTHS), DEPTHS - 1)].append(metric["scale"] * difference)
            if any(cells):
                rows.append(f"{html.escape(name)} · {_length(section)}")
                values.append([sum(cell) / len(cell) if cell else None for cell in cells])
    columns = [f"{100 * at // DEPTHS}–{100 * (at + 1) // DEPTHS} %" for at in range(DEPTHS)]
    title = f"{metric['title']} beside full attention, by length and depth of the needle"
    return _map(title, "depth", rows, columns, values, metric["digits"])


def by_length(sections: list[dict]) -> go.Figure | None:
    """A row an arm, a column a length: the difference to full attention over all items. None with a single length."""
    drawn = sorted(sections, key=_length)
    lengths = [_length(section) for section in drawn]
    if len(set(lengths)) < 2:
        return None
    metric = drawn[0]["kept"]["metrics"][0]
    arms = list(dict.fromkeys(arm["name"] for section in drawn for arm in section["kept"]["arms"] if arm["difference"]))
    found = [
        {arm["name"]: arm["difference"] for arm in section["kept"]["arms"] if arm["difference"]} for section in drawn
    ]
    values = [
        [
            metric["scale"] * one[name]["center"] if name in one and one[name]["center"] is not None else None
            for one in found
        ]
        for name in arms
    ]
    title = f"{drawn[0]['kept']['suite']}: {metric['title']} beside full attention, by length"
    return _map(
        title,
        "tokens",
        [html.escape(name) for name in arms],
        [str(length) for length in lengths],
        values,
        metric["digits"],
    )


def _length(section: dict) -> int:
    length = section["run"]["settings"].get("length")
    return length if isinstance(length, int) else 0


def _map(title: str, x: str, rows: list[str], columns: list[str], values: list[list], digits: int) -> go.Figure:
    text = [["" if value is None else f"{value:.{digits}f}" for value in row] for row in values]
    figure = go.Figure(go.Heatmap(z=values, x=columns, y=rows, text=text, texttemplate="%{text}", colorscale="Cividis", hoverinfo="x+y+z"))  # fmt: skip
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    figure.update_xaxes(type="category")
    return _layout(figure, title, x, "", 130 + 26 * len(rows))
