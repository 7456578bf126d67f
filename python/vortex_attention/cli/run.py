"""`vortex run`: the main job. Deploys the ready flows on the default model, measures speed and accuracy beside full
attention, prints the table and writes the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vortex_attention.cli import options


def run(
    flows: options.Flows = None,
    model: options.Model = "smollm2",
    budget: options.Budget = None,
    settings: options.FlowSettings = None,
    kv_dtype: options.KvDtype = "bf16",
    items: options.Items = 8,
    length: options.Length = 2048,
    batch: options.Batch = 8,
    context: options.Contexts = "2048,7500",
    rounds: options.Rounds = 3,
    steps: options.Steps = 4,
    device: options.Device = "cpu",
    threads: options.Threads = 0,
    seed: options.Seed = 1,
    report: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("report.html"),
    ledger: options.Ledger = None,
    trust_flow: options.TrustFlow = False,
    json: options.Json = False,
) -> None:
    """Measure flows on a real model: speed, accuracy, report."""
    from vortex_attention.cli import experiment, show
    from vortex_attention.report import check_report_path, write_report

    check_report_path(report)
    wanted = experiment.Settings(
        model=model,
        flows=flows or experiment.DEFAULT_FLOWS,
        overrides=options.overrides_of(settings, budget),
        items=items,
        length=length,
        seed=seed,
        batch=batch,
        contexts=options.numbers_of(context, "--context"),
        rounds=rounds,
        steps=steps,
        device=device,
        threads=threads,
        kv_dtype=kv_dtype,
    )
    with show.Reporter() as reporter:
        result = experiment.Experiment(wanted, reporter, options.ledger_of(ledger)).run()
    show.print_result(result, as_json=json)
    write_report(result, report)
    print(f"report: {report}", file=sys.stderr)
