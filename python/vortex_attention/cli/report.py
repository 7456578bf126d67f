"""`vortex report`: one HTML page on runs of the ledger. Measures nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from vortex_attention.cli import options


def report(
    runs: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="RUN", help="Beginnings of run ids; the latest of each suite when none is given."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the page goes.")] = Path("report.html"),
    ledger: Annotated[Optional[str], typer.Option(help="The ledger's file; VORTEX_LEDGER when not given.")] = None,
    json: options.Json = False,
) -> None:
    """Write a page on what the ledger holds."""
    import json as json_module

    from vortex_attention.ledger import Ledger
    from vortex_attention.report import check_report_path
    from vortex_attention.report.ledger_page import collect, latest, render
    from vortex_attention.report.page import write_page

    check_report_path(output)
    with Ledger.open(ledger, create=False) as opened:
        chosen = [opened.run_id(run) for run in runs] if runs else latest(opened)
        write_page(render(collect(opened, chosen)), output)
    print(json_module.dumps({"report": str(output), "runs": chosen}) if json else f"report: {output}")
