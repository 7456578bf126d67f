"""The report on runs of the ledger: one HTML file without outside resources. Accuracy and speed of a flow are joined by the hash of
its program, and only within one model. Names, docs and settings are untrusted and escaped; no text of test items is inside."""

from __future__ import annotations

import html
import json

from ..errors import UserError
from ..ledger import Ledger
from . import along, cards, lengths, page
from . import ledger_figures as figures
from .page import PAPER, POLICY, STYLE

FULL = "full"


# Kind of a run: what its summary holds for a page.
KEPT = {"accuracy": "result", "speed": "cases", "throughput": "cases", "selection": "along"}


def latest(ledger: Ledger) -> list[str]:
    """Of the model that was measured last: the latest finished run of each accuracy suite and length, of speed, and of a selection
    along a generation. Runs that keep no result of their own, as discovery's, are left out."""
    kept = {
        row["run"]: row
        for row in ledger.rows(
            "SELECT run, json_type(summary, '$.result') AS result, json_type(summary, '$.cases') AS cases, json_type(summary, '$.along') AS along FROM run_end"
        )
    }
    found: dict[tuple, str] = {}
    model = None
    for row in ledger.runs():
        if row["status"] != "done" or row["kind"] not in KEPT or kept[row["id"]][KEPT[row["kind"]]] is None:
            continue
        model = model or row["model_sha256"]
        if row["model_sha256"] == model:
            length = row["settings"].get("length") if row["kind"] == "accuracy" else None
            found.setdefault((row["kind"], row["suite"], length), row["id"])
    if not found:
        raise UserError(
            "report", "a finished run in the ledger", "none", "measure something first: vortex eval, vortex bench"
        )
    return list(found.values())


def collect(ledger: Ledger, runs: list[str]) -> dict:
    """What the page shows, JSON-ready."""
    facts = {row["id"]: row for row in ledger.runs()}
    sections, summaries = [], {}
    for run in runs:
        row = facts[run]
        ended = ledger.rows("SELECT summary FROM run_end WHERE run = ?", (run,))
        summary = summaries[run] = json.loads(ended[0]["summary"]) if ended else {}
        kept = summary.get(KEPT.get(row["kind"], ""))
        if row["status"] != "done":
            raise UserError(
                "report",
                "runs of accuracy or speed that have finished",
                f"{run[:10]} is {row['status']}",
                "see `vortex ledger runs`",
            )
        if not kept:
            raise UserError(
                "report",
                "runs that keep a result: of vortex eval, bench, or picture --along",
                f"{run[:10]} is {row['kind']}: {row['suite']}",
                "see `vortex ledger show`, or `vortex ui` for a study",
            )
        arms = ledger.rows("SELECT name, flow_hash FROM arm WHERE run = ?", (run,))
        sections.append(
            {
                "run": row,
                "kept": kept,
                "hash": {arm["name"]: arm["flow_hash"] for arm in arms},
                "threads": summary.get("threads"),
                "depths": lengths.differences(ledger, run, kept) if row["kind"] == "accuracy" else {},
            }
        )
    models = {section["run"]["model_sha256"] for section in sections}
    if len(models) > 1:
        raise UserError("report", "runs of one model", f"{len(models)} models", "make a report of each")
    order = list(KEPT)
    suites = list(dict.fromkeys(section["run"]["suite"] for section in sections))
    sections.sort(
        key=lambda section: (
            order.index(section["run"]["kind"]),
            suites.index(section["run"]["suite"]),
            _length(section),
        )
    )
    return {"sections": sections, "cards": cards.collect(ledger, sections, summaries)}


def _length(section: dict) -> int:
    """Tokens of its items, for the order of runs of one suite."""
    length = section["run"]["settings"].get("length")
    return length if isinstance(length, int) else 0


def render(collected: dict) -> str:
    """The page as text."""
    sections = collected["sections"]
    model = sections[0]["run"]
    parts, pictures = [], 0

    def draw(figure) -> str:
        nonlocal pictures
        pictures += 1
        return page.draw(figure, pictures == 1)

    joined = figures.joined(sections)
    if joined:
        parts.append(
            f"<h2>Accuracy and speed</h2>{draw(figures.frontier(joined))}<p class=note>{_e(joined['note'])}</p>"
        )
    parts.append(_over_lengths(sections, draw))
    draws = {"accuracy": _accuracy, "speed": _speed, "throughput": _throughput, "selection": _selection}
    parts += [draws[section["run"]["kind"]](section, draw) for section in sections]
    shown = "".join(cards.render(card, _interval, _table) for card in collected["cards"])
    script = (
        f"<script>{along.SCRIPT}</script>" if any("along" == section["run"]["suite"] for section in sections) else ""
    )
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8>{POLICY}<meta name=viewport content="width=device-width, initial-scale=1">
<title>Vortex: {_e(model["model"])}</title><style>{STYLE}</style></head><body>
<h1>Sparse attention on {_e(model["model"])}</h1>
<p class=note>model sha256 {_e(model["model_sha256"][:16])}… · every figure is paired with full attention · brackets are 95 % intervals · grey rows are controls</p>
{"".join(parts)}
<h2>The flows</h2>{shown}
{PAPER}{script}</body></html>
"""


def _over_lengths(sections: list[dict], draw) -> str:
    """What several runs of one suite show together, and the needle's map."""
    accuracy = [section for section in sections if section["run"]["kind"] == "accuracy"]
    drawn = []
    for suite in dict.fromkeys(section["run"]["suite"] for section in accuracy):
        same = [section for section in accuracy if section["run"]["suite"] == suite]
        drawn += [
            draw(figure)
            for figure in (lengths.by_length_and_depth(same), lengths.by_length(same))
            if figure is not None
        ]
    return f"<h2>By length and depth</h2>{''.join(drawn)}" if drawn else ""


def _throughput(section: dict, draw) -> str:
    """Offline throughput on mixes of lengths."""
    text = f"<h2>Offline throughput</h2>{_origin(section)}"
    for case in section["kept"]:
        rows = [
            ([_e(arm["name"]), f"{arm['tokens_per_second']:.1f}", _interval(arm["ratio"], 2), f"{arm['tokens']:.0f}", f"{arm['prompt_tokens']:.0f}", f"{arm['prefix_hit_tokens']:.0f}",
              f"{arm['preemptions']:.0f}"], False)
            for arm in case["arms"]]  # fmt: skip
        heads = ["flow", "tokens/s", "× full", "written tokens", "prompt tokens", "of them cached", "preemptions"]
        text += f"<h3>{_e(case['mix'])}: {_e(case['what'])}; {case['conversations']} conversations</h3>{_table(heads, rows)}"
    return text


def _selection(section: dict, draw) -> str:
    parts = "".join(
        f"<h3>{_e(name)}</h3>{along.part(name, kept, along.bits_of(kept))}" for name, kept in section["kept"].items()
    )
    return f"<h2>Pages read along a generation</h2>{_origin(section)}{parts}"


def _e(text) -> str:
    return html.escape(str(text))


def _origin(section: dict) -> str:
    run = section["run"]
    dirty = " with uncommitted changes" if run["dirty"] else ""
    settings = ", ".join(
        f"{key} {value}" for key, value in run["settings"].items() if not isinstance(value, (list, dict))
    )
    return (f"<p class=note>{_e(run['began'][:19])} · {_e(run['device'])} {_e(run['driver'])} · commit {_e(run['commit_id'])}{dirty} · run {_e(run['id'][:10])} · "
            f"{_e(settings)} · numerics {_e(run['numerics'])}</p>")  # fmt: skip


def _interval(value: dict | None, digits: int, scale: float = 1.0) -> str:
    if not value or value["center"] is None:
        return "–"
    center = f"{scale * value['center']:.{digits}f}"
    if value["low"] is None or value["high"] is None:
        return center
    return f"{center} <span class=note>[{scale * value['low']:.{digits}f}, {scale * value['high']:.{digits}f}]</span>"


def _table(heads: list[str], rows: list[tuple[list[str], bool]]) -> str:
    body = "".join(
        f"<tr{' class=control' if control else ''}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for cells, control in rows
    )
    return (
        "<div class=scroll><table><thead><tr>"
        + "".join(f"<th>{_e(head)}</th>" for head in heads)
        + f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _tries(of: dict | None) -> str:
    return f"{of['lost']} / {of['won']} ({of['p']:.2g})" if of else "–"


def _kernels(case: dict) -> str:
    """What ran on a device in a step of each arm, folded away."""
    arms = [arm for arm in case["arms"] if arm.get("graph_launches")]
    rows = [([_e(arm["name"]), str(arm["graph_launches"]), _e(", ".join(arm["kernels"]))], False) for arm in arms]
    heads = ["flow", "launches in the graph of a step", "kernels"]
    return f"<details><summary>kernels that ran</summary>{_table(heads, rows)}</details>" if rows else ""


def _accuracy(section: dict, draw) -> str:
    result = section["kept"]
    metrics, first = result["metrics"], result["metrics"][0]
    tried = any(arm.get("pass_fail") for arm in result["arms"])
    rows = []
    for arm in result["arms"]:
        cells = [_e(arm["name"]), *(_interval(arm["metrics"].get(metric["name"]), metric["digits"], metric["scale"]) for metric in metrics),
                 *([_tries(arm.get("pass_fail"))] if tried else []),
                 _interval(arm["difference"], first["digits"], first["scale"]), _e(arm["verdict"] or "–"), f"{arm['attended_tokens']:.0f}"]  # fmt: skip
        rows.append((cells, arm["role"] == "control"))
    heads = [
        "flow",
        *(metric["title"] for metric in metrics),
        *(["lost / won beside full (p)"] if tried else []),
        f"{first['title']}: better than full",
        "verdict",
        "tokens a row",
    ]
    said = (
        f"non-inferior: loses less than {result['margin'] * first['scale']:g} of {first['title']}"
        if result["ranked"]
        else f"Not ranked: {result['why_not_ranked']}."
    )
    pictures = "".join(draw(figure) for figure in figures.of_accuracy(result))
    tokens = section["run"]["settings"].get("length")
    length = f", {tokens} tokens" if isinstance(tokens, int) else ""
    return f"<h2>{_e(result['suite'])}: {len(result['items'])} items{length}</h2>{_origin(section)}{_table(heads, rows)}<p class=note>{_e(said)}</p>{pictures}"


def _speed(section: dict, draw) -> str:
    text = f"<h2>Decode speed</h2>{_origin(section)}"
    for case in section["kept"]:
        rows = []
        for arm in case["arms"]:
            cells = [_e(arm["name"]), f"{arm['milliseconds']:.2f}", f"{arm['tokens_per_second']:.0f}", _interval(arm["ratio"], 2),
                     *([_interval(arm["ratio_to_incumbent"], 2)] if case.get("incumbent") else []),
                     f"{arm['floor_milliseconds']:.2f}", f"{100 * arm['share_of_light']:.0f} %"]  # fmt: skip
            rows.append((cells, False))
        text += f"<h3>{case['batch']} sequences of {case['context']} tokens</h3>" + _table(
            ["flow", "ms a step", "tokens/s", "× full", *([f"× {case['incumbent']}"] if case.get("incumbent") else []), "light speed, ms", "share"], rows)  # fmt: skip
        text += _kernels(case)
    return text + "".join(draw(figure) for figure in figures.of_speed(section["kept"]))
