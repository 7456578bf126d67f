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
    along: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="Draw the pages along a generation of so many tokens, and keep them in the ledger."
        ),
    ] = None,
    threads: options.Threads = 0,
    ledger: options.Ledger = None,
) -> None:
    """Draw the pages that flows read for the last token of a needle's prompt, or along a generation after it: NAME.svg each."""
    import os

    from vortex_attention.cli.files import write_text
    from vortex_attention.errors import UserError
    from vortex_attention.eval.attended import attended_pages
    from vortex_attention.flows import load
    from vortex_attention.models import memory_of, open_source
    from vortex_attention.report.pages import pages_svg

    loaded = {flow.name: flow for flow in (load(name, **options.overrides_of(settings, budget)) for name in flows)}
    source = open_source(model)
    context, longest = source.config.context, length + (along or 1)
    if longest > context:
        raise UserError(
            "lengths",
            f"at most {context} tokens, the context of {source.name}",
            f"{longest} tokens for a needle's prompt and its answer",
            "lower --length",
        )
    memory_of(source, batch=1).require()
    if along is not None:
        _along(source, loaded, along, length, seed, threads, kv_dtype, output, options.ledger_of(ledger))
        return
    programs = {name: flow.program for name, flow in loaded.items()}
    drawn = attended_pages(source, programs, length=length, depth_of=3, seed=seed, threads=threads, kv_dtype=kv_dtype)
    for name, seen in drawn.items():
        title = f"{name}: {100 * seen.share:.0f} % of {seen.pages} pages, {seen.pages * seen.page_size} tokens"
        path = _place(output, f"{name}.svg", len(drawn))
        write_text(path, pages_svg(title, seen.lists, seen.pages, seen.pinned, seen.page_size, seen.needle_page))
        print(f"{path}: {title}")


def _along(
    source, loaded: dict, steps: int, length: int, seed: int, threads: int, kv_dtype: str, output, ledger
) -> None:
    """Generates through each flow, draws, and records what was read as a run of kind selection."""
    import contextlib

    from vortex_attention.cli import show
    from vortex_attention.cli.cards import cards
    from vortex_attention.cli.files import write_text
    from vortex_attention.models.geometry import of_source
    from vortex_attention.engine.pages import physical_page_size
    from vortex_attention.eval.along import along
    from vortex_attention.measure.provenance import numerics
    from vortex_attention.models import load_model
    from vortex_attention.report.along import figures

    model = load_model(source, threads=threads)
    programs = {name: flow.program for name, flow in loaded.items()}
    fixed = {"length": length, "steps": steps, "seed": seed}
    recorded = contextlib.nullcontext()
    if ledger is not None:
        page_size = physical_page_size(program.config.page_size for program in programs.values())
        recorded = ledger.run(
            "selection",
            suite="along",
            model=model.name,
            model_sha256=model.sha256,
            numerics=numerics(kv_dtype=kv_dtype, page_size=page_size),
            settings=fixed,
        )
    with recorded as run, show.Reporter() as reporter:
        seen = along(model, programs, **fixed, threads=threads, kv_dtype=kv_dtype, progress=reporter)
        kept = {name: one.to_json() for name, one in seen.items()}
        if run is not None:
            for name, program in programs.items():
                run.arm(name, program)
            run.summary["along"] = kept
            run.summary["flows"] = cards(loaded, of_source(source, kv_dtype), [(1, length + steps)])
    for name, one in seen.items():
        for kind, svg in zip(("steps", "heads"), figures(name, kept[name], one.read)):
            path = _place(output, f"{name}.{kind}.svg", 2)
            write_text(path, svg)
            print(f"{path}: {100 * one.read.mean():.1f} % of the pages over {steps} steps")


def _place(output: str | None, name: str, count: int) -> str:
    import os

    return output if output and count == 1 and not os.path.isdir(output) else os.path.join(output or ".", name)
