"""`vortex bench`: decode speed of flows, paired with full attention in the same process."""

from __future__ import annotations

from typing import Optional

import typer


def bench(
    flows: Optional[list[str]] = typer.Argument(None, help="Flows by name or file; the ready ones when none is given."),
    model: str = typer.Option("smollm2", help="A model by name, or a GGUF file."),
    budget: Optional[int] = typer.Option(None, help="Pages a row attends in all; each flow's own when not given."),
    settings: list[str] = typer.Option([], "--set", help="A flow setting, NAME=VALUE; may be repeated."),
    batch: int = typer.Option(8, min=1, max=4096, help="Sequences decoded at once."),
    context: str = typer.Option("7500", help="Context lengths, separated by commas."),
    rounds: int = typer.Option(6, min=1, max=10_000, help="Blocks full, flow, flow, full for each flow and context."),
    steps: int = typer.Option(6, min=1, help="Measured steps in a block."),
    threads: int = typer.Option(0, min=0, max=4096, help="Threads; 0 for all cores."),
    json: bool = typer.Option(False, "--json", help="Print the result as JSON instead of tables."),
) -> None:
    """Measure decode speed from filled contexts."""
    from vortex_attention.cli import experiment, options, show

    wanted = experiment.Settings(
        model=model, flows=flows or ("centroid", "quest", "mean_deviation", "sub_centroid", "slow_means"), overrides=options.overrides_of(settings, budget), items=0,
        batch=batch, contexts=options.numbers_of(context, "--context"), rounds=rounds, steps=steps, threads=threads)
    with show.Reporter() as reporter:
        result = experiment.Experiment(wanted, reporter).run(with_accuracy=False)
    show.print_result(result, as_json=json)
