"""Pictures of ledger runs: heat maps by group, curves by position, step parts, throughput by context, accuracy against speed."""

from __future__ import annotations

from html import escape  # plotly reads its texts as HTML

import plotly.graph_objects as go

from .figures import _layout, _style

FULL = "full"


def _styles(arms: list[dict]) -> dict:
    return _style([arm["name"] for arm in arms], {arm["name"] for arm in arms if arm["role"] == "control"})


def of_accuracy(result: dict) -> list[go.Figure]:
    arms, first = result["arms"], result["metrics"][0]
    found = []
    groups = list(dict.fromkeys(group for arm in arms for group in arm["groups"]))
    if len(groups) > 1:
        values = [
            [None if arm["groups"].get(group) is None else arm["groups"][group] * first["scale"] for arm in arms]
            for group in groups
        ]
        text = [["" if value is None else f"{value:.{first['digits']}f}" for value in row] for row in values]
        figure = go.Figure(go.Heatmap(z=values, x=[escape(arm["name"]) for arm in arms], y=[escape(group) for group in groups], text=text, texttemplate="%{text}", colorscale="Cividis",
                                      colorbar={"title": escape(first["title"])}))  # fmt: skip
        found.append(_layout(figure, f"{first['title']} by group", "", "", 120 + 28 * len(groups)))
    styles = _styles(arms)
    for curve, title, unit in (("kl_curve", "KL to full attention by position", "nat"), ("kl_dense_curve", "the same step on full attention's KV", "nat"),
                               ("agreement_curve", "share of positions with the same likeliest token", "")):  # fmt: skip
        drawn = [arm for arm in arms if curve in arm["curves"] and arm["name"] != FULL]
        if not drawn:
            continue
        figure = go.Figure()
        for arm in drawn:
            colour, marker = styles[arm["name"]]
            at = arm["curves"].get("positions") or list(range(1, len(arm["curves"][curve]) + 1))
            figure.add_trace(go.Scatter(x=at, y=arm["curves"][curve], name=escape(arm["name"]), mode="lines+markers",
                                        line={"color": colour, "dash": "dot" if arm["role"] == "control" else "solid"}, marker={"symbol": marker, "size": 8}))  # fmt: skip
        if unit:
            figure.update_yaxes(type="log")
        found.append(
            _layout(
                figure,
                title,
                "position, tokens" if "positions" in drawn[0]["curves"] else "stretch of the decoded text",
                unit,
            )
        )
    return found


def of_speed(cases: list[dict]) -> list[go.Figure]:
    last = cases[-1]["arms"]
    parts = list(last[0]["parts"])
    patterns = ("", "/", "x", ".", "-", "\\")
    figure = go.Figure([
        go.Bar(x=[escape(arm["name"]) for arm in last], y=[1000 * arm["parts"][part] for arm in last], name=part,
               marker={"color": colour, "pattern": {"shape": patterns[index % len(patterns)]}})
        for index, (part, colour) in enumerate(zip(parts, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#8c8c8c")))])  # fmt: skip
    figure.update_layout(barmode="stack")
    found = [
        _layout(figure, f"where a step's time goes: {cases[-1]['batch']} × {cases[-1]['context']}", "", "ms a step")
    ]
    if len(cases) > 1:
        styles = _style([arm["name"] for arm in last], set())
        figure = go.Figure()
        for name, (colour, marker) in styles.items():
            rate = [next(arm["tokens_per_second"] for arm in case["arms"] if arm["name"] == name) for case in cases]
            figure.add_trace(go.Scatter(x=[case["context"] for case in cases], y=rate, name=escape(name), mode="lines+markers", line={"color": colour},
                                        marker={"symbol": marker, "size": 9}))  # fmt: skip
        figure.update_yaxes(rangemode="tozero")
        found.append(_layout(figure, "throughput by context", "context, tokens", "tokens a second"))
        found.append(_ratios(cases, styles))
    return found


def _ratios(cases: list[dict], styles: dict) -> go.Figure:
    """Speed beside full attention against the context, with its intervals."""
    figure = go.Figure()
    for name, (colour, marker) in styles.items():
        points = [
            (case["context"], arm["ratio"])
            for case in cases
            for arm in case["arms"]
            if arm["name"] == name and arm["ratio"]
        ]
        if points:
            figure.add_trace(go.Scatter(x=[x for x, _ in points], y=[ratio["center"] for _, ratio in points], name=escape(name), mode="lines+markers",
                                        line={"color": colour}, marker={"symbol": marker, "size": 9}, error_y=_ends([ratio for _, ratio in points])))  # fmt: skip
    figure.add_hline(y=1, line_dash="dot", line_color="#8c8c8c", annotation_text="full attention")
    ratios = [arm["ratio"] for case in cases for arm in case["arms"] if arm["ratio"]]
    figure.update_yaxes(range=_span(ratios))
    return _layout(figure, "speed beside full attention by context", "context, tokens", "× full attention")


def _span(ratios: list[dict]) -> list[float] | None:
    """From 0 to the ends of the intervals, but no further than twice the largest ratio: intervals of few rounds have no end."""
    if not ratios:
        return None
    largest = max(1.0, *(ratio["center"] for ratio in ratios))
    highest = max(ratio["center"] if ratio["high"] is None else ratio["high"] for ratio in ratios)
    return [0.0, 1.05 * max(largest, min(highest, 2 * largest))]


def _ends(intervals: list[dict]) -> dict:
    """Error bars of plotly; an end that is not known has none."""
    up = [0.0 if one["high"] is None else one["high"] - one["center"] for one in intervals]
    down = [0.0 if one["low"] is None else one["center"] - one["low"] for one in intervals]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down}


def joined(sections: list[dict]) -> dict | None:
    """Flows that a speed run and an accuracy run both measured, by hash, of the first accuracy run that has such; None without."""
    speed = next((section for section in sections if section["run"]["kind"] == "speed"), None)
    accuracy = [section for section in sections if section["run"]["kind"] == "accuracy"] if speed else []
    return next((found for section in accuracy if (found := _joined(section, speed))), None)


def _joined(accuracy: dict, speed: dict) -> dict | None:
    case = speed["kept"][-1]
    names = {flow_hash: name for name, flow_hash in speed["hash"].items() if flow_hash}
    timed = {arm["name"]: arm for arm in case["arms"]}
    points = []
    for arm in accuracy["kept"]["arms"]:
        other = names.get(accuracy["hash"].get(arm["name"]))
        if other in timed and arm["difference"] and timed[other]["ratio"]:
            points.append(
                {
                    "name": arm["name"],
                    "role": arm["role"],
                    "difference": arm["difference"],
                    "ratio": timed[other]["ratio"],
                }
            )
    if not points:
        return None
    return {"points": points, "metric": accuracy["kept"]["metrics"][0],
            "note": f"Accuracy: {accuracy['kept']['suite']}, run {accuracy['run']['id'][:10]}. Speed: {case['batch']} × {case['context']}, run {speed['run']['id'][:10]}, "
                    f"commit {speed['run']['commit_id']}. Flows are joined by the hash of their programs."}  # fmt: skip


def frontier(joined: dict) -> go.Figure:
    figure, metric = go.Figure(), joined["metric"]
    scale = metric["scale"]
    for point, (colour, marker) in zip(joined["points"], _styles(joined["points"]).values()):
        ratio, difference = point["ratio"], point["difference"]

        def ends(interval: dict, by: float) -> dict:
            low, high = (interval["center"] if interval[end] is None else interval[end] for end in ("low", "high"))
            return {
                "type": "data",
                "symmetric": False,
                "array": [by * (high - interval["center"])],
                "arrayminus": [by * (interval["center"] - low)],
            }

        figure.add_trace(go.Scatter(x=[ratio["center"]], y=[scale * difference["center"]], name=escape(point["name"]), mode="markers+text", text=[escape(point["name"])],
                                    textposition="top right", marker={"size": 12, "color": colour, "symbol": marker},
                                    error_x=ends(ratio, 1.0), error_y=ends(difference, scale)))  # fmt: skip
    figure.add_hline(y=0, line_dash="dot", line_color="#8c8c8c", annotation_text="full attention")
    figure.update_layout(showlegend=False)
    figure.update_xaxes(range=_span([point["ratio"] for point in joined["points"]]))
    return _layout(
        figure,
        "accuracy beside full attention, and speed",
        "decode speed, full attention = 1",
        f"{metric['title']}, difference",
        440,
    )
