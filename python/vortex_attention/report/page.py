"""Lays out the report: one file, everything inside, readable on paper and on a phone. Untrusted text is escaped."""

from __future__ import annotations

import contextlib
import html
import os
import tempfile
from pathlib import Path

import plotly.io

from ..errors import MachineError, UserError
from . import figures

# Nothing is loaded from anywhere; the page's own script and style stand in it.
POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'\">"
)
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.lead { font-size: 1.1rem; } .note { color: #555; font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; } th:first-child, td:first-child { text-align: left; } tr.control td { color: #777; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .85rem; }
details { margin: .5rem 0; } summary { cursor: pointer; font-weight: 600; }
figure { margin: 1rem 0; } h3, figcaption { font-size: 1.05rem; font-weight: 600; } h2, h3, h4, figcaption { break-after: avoid; } h4 { font-size: .95rem; margin: .8rem 0 .2rem; } .card { border-bottom: 1px solid #ddd; padding-bottom: .3rem; }
.picture svg { width: 100%; min-width: 36rem; height: auto; display: block; } .wide { min-width: 36rem; }
.along canvas { width: 100%; height: 16rem; image-rendering: pixelated; border: 1px solid #ddd; } .along fieldset { border: 0; padding: 0; }
@media print {
  body { max-width: none; margin: 0; } table { font-size: .75rem; } figure, .picture, tr { break-inside: avoid; } .along { display: none; } .scroll { overflow: visible; }
  th, td { white-space: normal; } .picture svg, .wide { min-width: 0; } pre { white-space: pre-wrap; }
}
"""
# On paper nothing is folded, and charts are as wide as the sheet.
PAPER = """<script>
const charts = (size) => document.querySelectorAll(".plotly-graph-div").forEach((one) => Plotly.relayout(one, size));
addEventListener("beforeprint", () => { document.querySelectorAll("details").forEach((one) => { one.open = true; }); charts({ width: 690 }); });
addEventListener("afterprint", () => charts({ width: null, autosize: true }));
</script>"""


def _interval(value: dict | None, digits: int) -> str:
    if value is None:
        return "–"
    if value["low"] == value["high"]:
        return f"{value['center']:.{digits}f}"
    return (
        f"{value['center']:.{digits}f} <span class=note>[{value['low']:.{digits}f}, {value['high']:.{digits}f}]</span>"
    )


def _table(result: dict) -> str:
    speed = {arm["name"]: arm for arm in result["speed"][-1]["arms"]}
    rows = []
    for arm in result["accuracy"]["arms"]:
        fast = speed.get(arm["name"])
        cells = [
            html.escape(arm["name"]),
            _interval(arm["exact"], 2),
            _interval(arm["log_probability"], 3),
            _interval(arm["kl"], 3),
            f"{arm['attended_tokens']:.0f}",
            f"{fast['milliseconds']:.1f}" if fast else "–",
            _interval(fast["ratio"], 2) if fast else "–",
            f"{100 * fast['share_of_light']:.0f} %" if fast else "–",
        ]
        kind = " class=control" if arm["name"] in result["controls"] else ""
        rows.append(f"<tr{kind}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    heads = (
        "flow",
        "exact match",
        "answer log-prob",
        "KL to full",
        "tokens a row",
        "ms a step",
        "× full",
        "of light speed",
    )
    return (
        "<div class=scroll><table><thead><tr>"
        + "".join(f"<th>{head}</th>" for head in heads)
        + "</tr></thead><tbody>"
        + "".join(rows)
        + "</tbody></table></div>"
    )


def _cards(result: dict) -> str:
    cards = []
    for flow in result["flows"]:
        cards.append(
            f"<details><summary>{html.escape(flow['name'])}</summary><p>{html.escape(flow['doc'])}</p>"
            f"<pre>{html.escape(flow['source'])}</pre><p class=note>canonical hash {html.escape(flow['hash'])}; "
            f"{html.escape(flow['config'])}</p></details>"
        )
    return "".join(cards)


def draw(figure, first: bool) -> str:
    """HTML of a figure, its title as a caption, which wraps on a phone. first: with plotly's script, once a page."""
    title = figure.layout.title.text  # escaped by figures._layout
    figure.update_layout(title=None, margin_t=10, height=figure.layout.height - 40)
    drawn = plotly.io.to_html(
        figure, full_html=False, include_plotlyjs=first, config={"displayModeBar": False, "responsive": True}
    )
    if any(trace.type == "heatmap" and len(trace.x if trace.x is not None else ()) > 3 for trace in figure.data):
        drawn = f"<div class=scroll><div class=wide>{drawn}</div></div>"  # its numbers stay legible on a phone
    return f"<figure><figcaption>{title}</figcaption>{drawn}</figure>"


def render(result: dict) -> str:
    """The page as text. `result` is what `vortex run --json` writes."""
    if not result["accuracy"] or not result["speed"]:
        raise UserError(
            "report", "a result with accuracy and speed", "a partial one", "run `vortex run` without --no-… options"
        )
    case = result["speed"][-1]
    origin = result["provenance"]
    drawings = [figures.frontier(result), figures.by_depth(result), figures.step_times(result)]
    if len(result["speed"]) > 1:
        drawings.insert(2, figures.time_by_context(result))
    if (picture := figures.selection(result)) is not None:
        drawings.append(picture)
    pictures = "".join(draw(drawing, index == 0) for index, drawing in enumerate(drawings))
    dirty = " with uncommitted changes" if origin["dirty"] else ""
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8>{POLICY}<meta name=viewport content="width=device-width, initial-scale=1">
<title>Vortex: {html.escape(result["model"]["name"])}</title><style>{STYLE}</style></head><body>
<h1>Sparse attention on {html.escape(result["model"]["name"])}</h1>
<p class=lead>{html.escape(result["headline"])}</p>
<p class=note>{html.escape(origin["date"])} · {html.escape(origin["device"])}, {result["threads"]} threads · K and V in {html.escape(result.get("kv_dtype", "bf16"))} · commit
{html.escape(origin["commit"])}{dirty} · model sha256 {html.escape(result["model"]["sha256"][:16])}…</p>
{_table(result)}
<p class=note>Brackets are 95 % intervals. Accuracy: {len(result["accuracy"]["items"])} single needles in natural text of
{result["accuracy"]["length"]} tokens; the answer is fed token by token, prefill is dense in every arm, the last prompt token and the
answer are decoded through the flow. Speed: steady decode of {case["batch"]} sequences of {case["context"]} tokens of distinct random KV, blocks of
full, flow, flow, full in one process. Light speed: the bytes the engine counted, at the rate at which a buffer of as many bytes streams here ({result["read_gigabytes_per_second"]:.1f} GB/s for 1 GiB). Grey rows are controls.</p>
{pictures}
<h2>The flows</h2>{_cards(result)}
{PAPER}</body></html>
"""


def check_report_path(path: Path) -> None:
    """Refuses what `write_report` could not write, before anything is measured."""
    if path.is_dir():
        raise UserError("report", "the path of a file", f"{path} is a folder", "name a file in it")
    with _machine_errors(path), tempfile.TemporaryFile(dir=path.parent):
        pass


@contextlib.contextmanager
def _machine_errors(path: Path):
    try:
        yield
    except OSError as error:
        raise MachineError(
            "report", f"a folder that can be written for {path}", str(error), "name another place"
        ) from error


def write_report(result: dict, path: Path) -> None:
    """The page of a result of `vortex run`."""
    write_page(render(result), path)


def write_page(text: str, path: Path) -> None:
    """Writes the page beside `path` and renames it, so that an interrupted run leaves the old one whole."""
    check_report_path(path)
    with _machine_errors(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
