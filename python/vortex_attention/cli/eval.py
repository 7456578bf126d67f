"""`vortex eval`: accuracy of flows on single needles in natural text, each item paired with full attention."""

from __future__ import annotations

from typing import Optional

import typer


def eval(  # noqa: A001  the command's name
    flows: Optional[list[str]] = typer.Argument(None, help="Flows by name or file; ready ones and controls when none is given."),
    model: str = typer.Option("smollm2", help="A model by name, or a GGUF file."),
    budget: Optional[int] = typer.Option(None, help="Pages a row attends in all; each flow's own when not given."),
    settings: list[str] = typer.Option([], "--set", help="A flow setting, NAME=VALUE; may be repeated."),
    items: int = typer.Option(48, min=1, max=10_000, help="Needles to find."),
    length: int = typer.Option(4096, help="Tokens of a needle's prompt."),
    threads: int = typer.Option(0, min=0, max=4096, help="Threads; 0 for all cores."),
    seed: int = typer.Option(1, help="Fixes the items."),
    json: bool = typer.Option(False, "--json", help="Print the result as JSON instead of tables."),
) -> None:
    """Measure accuracy, paired with full attention."""
    from vortex_attention.cli import experiment, options, show

    wanted = experiment.Settings(
        model=model, flows=flows or ("oracle", *experiment.DEFAULT_FLOWS), overrides=options.overrides_of(settings, budget), items=items,
        length=length, seed=seed, contexts=(), threads=threads)
    with show.Reporter() as reporter:
        result = experiment.Experiment(wanted, reporter).run(with_speed=False)
    show.print_result(result, as_json=json)
