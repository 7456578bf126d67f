"""`vortex run`: the main job. Deploys the ready flows on the default model, measures speed and accuracy beside full
attention, prints the table and writes the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import typer


def run(
    flows: Optional[list[str]] = typer.Argument(None, help="Flows by name or file; the ready ones and controls when none is given."),
    model: str = typer.Option("smollm2", help="A model by name, or a GGUF file."),
    budget: Optional[int] = typer.Option(None, help="Pages a row attends in all; each flow's own when not given."),
    settings: list[str] = typer.Option([], "--set", help="A flow setting, NAME=VALUE; may be repeated."),
    items: int = typer.Option(8, min=1, max=10_000, help="Needles to find."),
    length: int = typer.Option(2048, help="Tokens of a needle's prompt."),
    batch: int = typer.Option(8, min=1, max=4096, help="Sequences decoded at once in the speed measurement."),
    context: str = typer.Option("2048,7500", help="Context lengths of the speed measurement, separated by commas."),
    rounds: int = typer.Option(3, min=1, max=10_000, help="Blocks full, flow, flow, full for each flow and context."),
    steps: int = typer.Option(4, min=1, help="Measured steps in a block."),
    threads: int = typer.Option(0, min=0, max=4096, help="Threads; 0 for all cores."),
    seed: int = typer.Option(1, help="Fixes the items and the random contexts."),
    report: Path = typer.Option(Path("report.html"), help="Where the report goes."),
    json: bool = typer.Option(False, "--json", help="Print the result as JSON instead of tables."),
) -> None:
    """Measure flows on a real model: speed, accuracy, report."""
    from vortex_attention.cli import experiment, options, show
    from vortex_attention.report import check_report_path, write_report

    check_report_path(report)
    wanted = experiment.Settings(
        model=model, flows=flows or experiment.DEFAULT_FLOWS, overrides=options.overrides_of(settings, budget), items=items,
        length=length, seed=seed, batch=batch, contexts=options.numbers_of(context, "--context"), rounds=rounds, steps=steps,
        threads=threads)
    with show.Reporter() as reporter:
        result = experiment.Experiment(wanted, reporter).run()
    show.print_result(result, as_json=json)
    write_report(result, report)
    print(f"report: {report}", file=sys.stderr)
