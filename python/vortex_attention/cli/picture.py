"""`vortex picture`: which pages a flow reads, in every layer and KV head, as an SVG."""

from __future__ import annotations

from typing import Annotated

import typer

from vortex_attention.cli import options


def picture(
    flows: Annotated[list[str], typer.Argument(help="Ready flows' names, flow files or configs.", metavar="FLOW")],
    model: options.Model = "smollm2",
    budget: options.Budget = None,
    settings: options.FlowSettings = None,
    trust_flow: options.TrustFlow = False,
    kv_dtype: options.KvDtype = "bf16",
    length: options.Length = 2048,
    seed: options.Seed = 1,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The file, or the folder for several flows.")
    ] = None,
    threads: options.Threads = 0,
) -> None:
    """Draw the pages that flows read for the last token of a needle's prompt: NAME.svg each."""
    import os

    from vortex_attention.errors import MachineError
    from vortex_attention.eval.attended import attended_pages
    from vortex_attention.flows import load
    from vortex_attention.models import memory_of, open_source
    from vortex_attention.report.pages import pages_svg

    loaded = {flow.name: flow for flow in (load(name, **options.overrides_of(settings, budget)) for name in flows)}
    source = open_source(model)
    memory_of(source, batch=1).require()
    programs = {name: flow.program for name, flow in loaded.items()}
    drawn = attended_pages(source, programs, length=length, depth_of=3, seed=seed, threads=threads, kv_dtype=kv_dtype)
    for name, seen in drawn.items():
        title = f"{name}: {100 * seen.share:.0f} % of {seen.pages} pages, {seen.pages * seen.page_size} tokens"
        path = (
            output
            if output and (len(drawn) == 1 and not os.path.isdir(output))
            else os.path.join(output or ".", f"{name}.svg")
        )
        try:
            if os.path.dirname(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(pages_svg(title, seen.lists, seen.pages, seen.pinned, seen.page_size, seen.needle_page))
        except OSError as error:
            raise MachineError(
                path, "a file that can be written", error.strerror or str(error), "choose another place with --output"
            ) from None
        print(f"{path}: {title}")
