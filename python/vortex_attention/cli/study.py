"""`vortex study ...`: a study for humans and machines: hand flows in, have them measured, ask what came out."""

from __future__ import annotations

from typing import Annotated

import typer

from vortex_attention.cli import options

study = typer.Typer(help="Hand flows into a study, have them measured, ask what came out.", no_args_is_help=True)

Name = Annotated[str, typer.Option("--study", help="The study of the ledger.")]


@study.command()
def work(
    name: Name = "first",
    idle: Annotated[float, typer.Option(min=0.0, help="Seconds without anything to do after which it ends; 0: never.")] = 0.0,
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Measure what is submitted to a study, turn by turn, until Ctrl-C or nothing has come for --idle seconds."""
    import json as json_module

    from vortex_attention.cli import show
    from vortex_attention.discover.study import Study
    from vortex_attention.discover.worker import Worker, laboratory_of, present
    from vortex_attention.ledger import Ledger

    def told(turn, verdict) -> None:
        if verdict and json:
            print(json_module.dumps({"proposal": turn.proposal.id, "agent": turn.submission.agent, "gate": turn.gate, "status": verdict.status,
                                     "seconds": verdict.seconds}), flush=True)
        elif verdict:
            print(show.plain(f"{turn.gate} of {turn.proposal.id} for {turn.submission.agent}: {verdict.status}, {verdict.reason}"), flush=True)

    with Ledger.open(ledger) as opened, show.Reporter() as reporter:
        found = Study.open(opened, name)
        with present(found):
            Worker(found, laboratory_of(found, reporter), told=told).run(idle or float("inf"))
