"""The pictures of a report, as plotly figures. Colours are those of Okabe and Ito (2008), told apart by the colour-blind;
controls are grey and every arm has its own marker, so that the pictures also read in print."""

from __future__ import annotations

from html import escape  # plotly reads its texts as HTML

import plotly.graph_objects as go

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("circle", "square", "diamond", "triangle-up", "star", "cross", "pentagon")
CONTROL = "#8c8c8c"


def _style(names: list[str], controls: set[str]) -> dict[str, tuple[str, str]]:
    styles, index = {}, 0
    for name in names:
        if name in controls:
            styles[name] = (CONTROL, "x" if len([n for n in styles if n in controls]) % 2 else "circle-open")
        else:
            styles[name] = (COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
            index += 1
    return styles


def _layout(figure: go.Figure, title: str, x: str, y: str, height: int = 380) -> go.Figure:
    figure.update_layout(
        title=escape(title),
        xaxis_title=escape(x),
        yaxis_title=escape(y),
        height=height,
        template="plotly_white",
        legend={"orientation": "h", "y": -0.25},
        margin={"l": 60, "r": 20, "t": 50, "b": 60},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    return figure


def frontier(result: dict) -> go.Figure:
    """Speed-up against full attention (x) and answer log-probability (y) of each arm, with both intervals."""
    accuracy = {arm["name"]: arm for arm in result["accuracy"]["arms"]}
    speed = {arm["name"]: arm for arm in result["speed"][-1]["arms"]}
    case = result["speed"][-1]
    controls = set(result["controls"])
    names = [name for name in accuracy if name in speed]
    figure = go.Figure()
    ratios = {name: speed[name]["ratio"] or {"center": 1.0, "low": 1.0, "high": 1.0} for name in names}
    # Names of neighbours along x stand above and below in turn, so that they do not cover each other.
    above = set(sorted(names, key=lambda name: ratios[name]["center"])[::2])
    for name, (colour, marker) in _style(names, controls).items():
        ratio = ratios[name]
        answer = accuracy[name]["log_probability"]
        figure.add_trace(
            go.Scatter(
                x=[ratio["center"]],
                y=[answer["center"]],
                name=escape(name),
                mode="markers+text",
                text=[escape(name)],
                textposition="top center" if name in above else "bottom center",
                marker={"size": 12, "color": colour, "symbol": marker},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [ratio["high"] - ratio["center"]],
                    "arrayminus": [ratio["center"] - ratio["low"]],
                },
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [answer["high"] - answer["center"]],
                    "arrayminus": [answer["center"] - answer["low"]],
                },
            )
        )
    title = f"Accuracy and speed: needle at {result['accuracy']['length']} tokens, decode {case['batch']} × {case['context']}"
    figure.update_layout(showlegend=False)
    return _layout(figure, title, "decode speed, full attention = 1", "answer log-probability (nat a token)", 440)


def step_times(result: dict) -> go.Figure:
    """Milliseconds of a decode step by arm, stacked by part, one group of bars for each case."""
    case = result["speed"][-1]
    parts = list(dict.fromkeys(part for arm in case["arms"] for part in arm["parts"]))
    figure = go.Figure()
    for index, part in enumerate(parts):
        figure.add_trace(
            go.Bar(
                x=[escape(arm["name"]) for arm in case["arms"]],
                y=[1000 * arm["parts"].get(part, 0.0) for arm in case["arms"]],
                name=part,
                marker={
                    "color": COLOURS[index % len(COLOURS)],
                    "pattern": {"shape": ("", "/", "\\", "x", "-", "|", "+")[index % 7]},
                },
            )
        )
    figure.update_layout(barmode="stack")
    return _layout(figure, f"Where a step's time goes, {case['batch']} × {case['context']}", "", "milliseconds a step")


def time_by_context(result: dict) -> go.Figure:
    """Milliseconds of a decode step against the context length."""
    figure = go.Figure()
    names = [arm["name"] for arm in result["speed"][-1]["arms"]]
    for name, (colour, marker) in _style(names, set(result["controls"])).items():
        points = [
            (case["context"], arm["milliseconds"])
            for case in result["speed"]
            for arm in case["arms"]
            if arm["name"] == name
        ]
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in points],
                y=[y for _, y in points],
                name=escape(name),
                mode="lines+markers",
                line={"color": colour},
                marker={"color": colour, "symbol": marker, "size": 9},
            )
        )
    figure.update_yaxes(rangemode="tozero")
    return _layout(
        figure, f"Step time by context, batch {result['speed'][-1]['batch']}", "context, tokens", "milliseconds a step"
    )


def by_depth(result: dict) -> go.Figure:
    """Answer log-probability of each item (columns: depth of the needle) and arm (rows)."""
    arms = result["accuracy"]["arms"]
    depths = [item["depth"] for item in result["accuracy"]["items"]]
    figure = go.Figure(
        go.Heatmap(
            x=[f"{100 * depth:.0f} %" for depth in depths],
            y=[escape(arm["name"]) for arm in arms],
            z=[[outcome["log_probability"] for outcome in arm["outcomes"]] for arm in arms],
            colorscale="Cividis",
            zmin=-4,
            zmax=0,
            colorbar={"title": "nat"},
        )
    )
    figure.update_yaxes(autorange="reversed")
    return _layout(figure, "Answer log-probability by depth of the needle", "depth", "")


def selection(result: dict) -> go.Figure | None:
    """How often each page was read at the answer's last step, by layer, over the KV heads of one item."""
    picture = result.get("selection")
    if not picture:
        return None
    figure = go.Figure(
        go.Heatmap(z=picture["share"], colorscale="Cividis", zmin=0, zmax=1, colorbar={"title": "share of heads"})
    )
    figure.add_vline(x=picture["needle_page"], line={"color": "#D55E00", "width": 2}, annotation_text="needle")
    return _layout(figure, f"Pages that {picture['flow']} reads for the last answer token", "page", "layer", 420)
