"""`vortex trace`: records what full attention is given on real text, and says where its mass lies."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vortex_attention.cli import options

Texts = Annotated[int, typer.Option("--items", min=1, max=1000, help="Texts to trace.")]
Length = Annotated[int, typer.Option(min=64, help="Tokens of a text.")]
Positions = Annotated[int, typer.Option(min=1, help="Queries kept of each text, spread over its last three quarters.")]
Share = Annotated[float, typer.Option(min=0.01, max=0.999, help="Of the mass, for the count of pages that carry it.")]
PageSize = Annotated[int, typer.Option(min=1, max=1024, help="Tokens of a page in that count.")]
Output = Annotated[
    Optional[str], typer.Option("--output", "-o", help="An SVG of the pages needed, by layer and KV head.")
]


def trace(
    model: options.Model = "smollm2",
    load_format: options.LoadFormat = "auto",
    items: Texts = 4,
    length: Length = 2048,
    positions: Positions = 24,
    seed: options.Seed = 1,
    share: Share = 0.95,
    page_size: PageSize = 16,
    output: Output = None,
    threads: options.Threads = 0,
    json: options.Json = False,
) -> None:
    """Keep queries, keys and values of real text; count the pages that carry the mass of attention."""
    from vortex_attention.cli import instruments, show
    from vortex_attention.eval.ablation.job import pages_summary
    from vortex_attention.eval.ablation.on_traces import pages_that_carry
    from vortex_attention.eval.suites.screen import ScreenSuite
    from vortex_attention.eval.trace_bed import TraceBed
    from vortex_attention.models.data import natural_text
    from vortex_attention.report.heat import heat_svg

    with show.Reporter() as reporter:
        bed = TraceBed(model, {}, natural=natural_text, threads=threads, load_format=load_format, progress=reporter)
        suite = ScreenSuite(bed.context, items=items, length=length, seed=seed, positions=positions)
        traces = bed.record(suite.items())
    needed, there = pages_that_carry(traces, bed.geometry, share, page_size)
    pages = pages_summary(needed, there, share)
    result = {
        "model": {"name": bed.name, "sha256": bed.sha256},
        "settings": suite.settings,
        "recorded": bed.recorded,
        "kept": str(bed.kept.folder),
        "page_size": page_size,
        "pages": pages,
    }
    instruments.print_trace(result, as_json=json)  # first: no picture that fails costs the figures
    if output:
        heads = [f"{head}" for head in range(bed.geometry.kv_heads)]
        layers = [f"layer {layer}" for layer in range(bed.geometry.layers)]
        title = (
            f"{bed.name}: pages of {page_size} tokens that carry {100 * share:g} % of the mass, of {pages['there']:.0f}"
        )
        instruments.write(
            output, heat_svg(title, "a row a layer, a column a KV head", pages["heads"], layers, heads, digits=1)
        )
