"""`vortex eval`: accuracy of flows on a suite, each item paired with full attention, beside the controls."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vortex_attention.cli import options

Suite = Annotated[
    str,
    typer.Option(help="needle, ruler, text, drift, reasoning, screen, all, or a .jsonl file of prompts and answers."),
]
Items = Annotated[
    Optional[int],
    typer.Option(min=1, max=100_000, help="Items; of ruler, of each task. The suite's own when not given."),
]
Length = Annotated[Optional[int], typer.Option(help="Tokens of a prompt; of drift, with its continuation.")]
Tasks = Annotated[
    Optional[str],
    typer.Option(help="Of ruler, reasoning or screen (RULER's, their prompts as texts): tasks separated by commas."),
]
First = Annotated[
    Optional[int],
    typer.Option(min=0, help="Of ruler: questions of each task that are passed over, those of an earlier run."),
]
Steps = Annotated[Optional[int], typer.Option(min=1, help="Of text, reasoning and files: tokens decoded at most.")]
Tries = Annotated[
    Optional[int], typer.Option(min=1, help="Of reasoning and files: sampled answers to each question; 1 is greedy.")
]
Every = Annotated[Optional[int], typer.Option(min=1, help="Of drift: distance of the positions that are compared.")]
Positions = Annotated[Optional[int], typer.Option(min=1, help="Of screen: queries asked of each text.")]

Together = Annotated[
    int,
    typer.Option(
        min=0, max=256, help="Items decoded side by side; 0: one on the CPU, on a device what 16 GiB of KV hold."
    ),
]


def eval(  # noqa: A001  the command's name
    flows: options.Flows = None,
    suite: Suite = "needle",
    model: options.Model = "smollm2",
    load_format: options.LoadFormat = "auto",
    budget: options.Budget = None,
    settings: options.FlowSettings = None,
    kv_dtype: options.KvDtype = "bf16",
    items: Items = None,
    length: Length = None,
    tasks: Tasks = None,
    first: First = None,
    steps: Steps = None,
    tries: Tries = None,
    every: Every = None,
    positions: Positions = None,
    device: options.Device = "cpu",
    threads: options.Threads = 0,
    seed: Annotated[Optional[int], typer.Option(help="Fixes the items.")] = None,
    controls: Annotated[bool, typer.Option(help="Measure oracle, random pages and recent pages too.")] = True,
    stop_losers: Annotated[
        bool, typer.Option("--stop-losers", help="Stop a flow once it is shown to lose more than the margin.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure also what the ledger knows.")] = False,
    snapshots: options.Snapshots = 8.0,
    together: Together = 0,
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Measure accuracy, paired with full attention. FLOW may be NAME@BUDGET."""
    from vortex_attention.cli import all_suites, measure, show

    wanted = measure.Wanted(
        suite=suite,
        flows=flows or (all_suites.FLOWS if suite == "all" else measure.DEFAULT_FLOWS),
        model=model,
        load_format=load_format,
        overrides=options.overrides_of(settings, budget),
        kv_dtype=kv_dtype,
        device=device,
        threads=threads,
        controls=controls,
        stop_losers=stop_losers,
        fresh=fresh,
        snapshots=snapshots,
        together=together,
        options={
            "items": items,
            "length": length,
            "tasks": None if tasks is None else tuple(name.strip() for name in tasks.split(",") if name.strip()),
            "first": first,
            "steps": steps,
            "tries": tries,
            "every": every,
            "positions": positions,
            "seed": seed,
        },
    )
    if suite == "all":
        with show.Reporter() as reporter:
            result = all_suites.all_suites(wanted, reporter, options.ledger_of(ledger))
        show.print_all_suites(result, as_json=json)
        return
    with show.Reporter() as reporter:
        result = measure.accuracy(wanted, reporter, options.ledger_of(ledger))
    show.print_suite(result, as_json=json)
