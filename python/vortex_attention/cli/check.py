"""`vortex check`: is a flow right, and what will it cost. Reads no model and measures nothing."""

import json
from typing import Annotated

import typer

from vortex_attention.cli import options


def check(
    flows: Annotated[
        list[str], typer.Argument(help="Ready flows' names, .py files, or file.py:Class.", metavar="FLOW")
    ],
    model: Annotated[
        str,
        typer.Option(
            help="The model to price for: a known name or shape, or the path of a .gguf file or of a Hugging Face folder."
        ),
    ] = "smollm2",
    context: Annotated[
        list[int] | None, typer.Option(max=2**30, help="Tokens of a sequence; may be given several times.")
    ] = None,
    batch: Annotated[int, typer.Option(max=2**30, help="Sequences of a decode step.")] = 8,
    budget: options.Budget = None,
    settings: options.FlowSettings = None,
    kv_dtype: options.KvDtype = "bf16",
    trust_flow: options.TrustFlow = False,
    as_json: options.Json = False,
) -> None:
    """Check flows and price them: errors with the line of your file, bytes per step, speed-up by bytes."""
    from vortex_attention.cli.geometry import geometry_of

    shape = geometry_of(model, kv_dtype)
    contexts = context or [length for length in (1024, 2048, 4096, 8192, 16384, 32768) if length <= shape.context]
    reports = [_report(flow, shape, contexts, batch, options.overrides_of(settings, budget)) for flow in flows]
    if as_json:
        print(json.dumps(reports if len(reports) > 1 else reports[0]))
    else:
        print("\n\n".join(_text(report, shape, batch) for report in reports))


def _report(flow: str, shape, contexts: list[int], batch: int, settings: dict[str, str]) -> dict:
    from vortex_attention import _core
    from vortex_attention.flows import load_flow

    program = load_flow(flow, **settings)
    plan = _core.compile_flow(program, **shape.bound)
    rows = []
    for length in contexts:
        price = _core.price(plan, **shape.workload, context=length, batch=batch)
        names = [name for name in dir(price) if not name.startswith("_")]
        rows.append({"context": length, **{name: getattr(price, name) for name in names}})
    return {
        "flow": flow,
        "name": program.name,
        "doc": program.doc,
        "hash": program.hash,
        "settings": str(program.config),
        "summaries": program.summaries,
        "stages": plan.stages,
        "model": shape.name,
        "kv_dtype": shape.kv_dtype,
        "batch": batch,
        "prices": rows,
    }


def _text(report: dict, shape, batch: int) -> str:
    first = report["prices"][0]
    summaries = ", ".join(f"{name} {kind}" for name, kind in report["summaries"].items()) or "none"
    share = first["summary_bytes_per_page"] / first["kv_bytes_per_page"]
    lines = [
        f"{report['flow']}: {report['name']} is right"
        + (f" - {report['doc'].splitlines()[0]}" if report["doc"] else ""),
        f"  settings   {report['settings']}",
        f"  summaries  {summaries}",
        f"  memory     {first['summary_bytes_per_page']} bytes a page and KV head, {share:.1%} of its keys and values",
        f"  stages     {', '.join(report['stages']) or 'none'}",
        f"  hash       {report['hash']}",
        f"  one decode step, batch {batch}, on {shape} (MB read; speed-ups by bytes alone):",
        "  context   pages  attended     score    attend      full  attention      step",
    ]
    for row in report["prices"]:
        megabytes = "".join(
            f"{row[name] / 1e6:10.1f}" for name in ("score_bytes", "attend_bytes", "full_attention_bytes")
        )
        speed = f"{row['attention_speedup']:10.2f}x{row['step_speedup']:9.2f}x"
        lines.append(f"  {row['context']:7}{row['pages']:8}{row['attended_pages']:10}{megabytes}{speed}")
    return "\n".join(lines)
