"""`vortex ledger ...`: what has been measured, and taking it elsewhere. Shows and exports; only `retract` writes."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Optional

import typer

from vortex_attention.cli import options

ledger = typer.Typer(help="Show, export and retract what was measured.", no_args_is_help=True)

Path_ = Annotated[Optional[str], typer.Option("--ledger", help="The ledger's file; VORTEX_LEDGER when not given.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The beginning of a run's id.")]


def _open(path: str | None, create: bool = False):
    from vortex_attention.ledger import Ledger

    return Ledger.open(path, create=create)


@ledger.command()
def runs(
    last: Annotated[int, typer.Option(min=1, help="How many.")] = 20, path: Path_ = None, json: options.Json = False
) -> None:
    """The latest runs, newest first."""
    from rich.console import Console
    from rich.table import Table

    with _open(path) as opened:
        found = opened.runs(last)
    if json:
        print(json_module.dumps(found))
        return
    table = Table()
    for head in ("run", "began", "what", "model", "arms", "outcomes", "blocks", "commit", "device", "status"):
        table.add_column(head)
    for row in found:
        commit = row["commit_id"] + ("+" if row["dirty"] else "")
        cells = (
            row["id"][:10],
            row["began"][:19].replace("T", " "),
            f"{row['kind']}: {row['suite']}",
            row["model"],
            row["arms"],
            row["outcomes"],
            row["blocks"],
            commit,
            row["device"],
            row["status"],
        )
        table.add_row(*(_plain(cell) for cell in cells))
    Console(width=None if table.row_count == 0 else 160).print(table)


@ledger.command()
def show(run: RunId, path: Path_ = None, json: options.Json = False) -> None:
    """One run: where it was measured, its arms, and the means of what they scored."""
    from rich.console import Console
    from rich.table import Table

    from vortex_attention.ledger.show import of_run

    with _open(path) as opened:
        found = of_run(opened, opened.run_id(run))
    if json:
        print(json_module.dumps(found))
        return
    for name, value in found["run"].items():
        print(f"{name:>12}  {_plain(value)}")
    table = Table()
    names = list(dict.fromkeys(name for arm in found["arms"] for name in arm["means"]))
    for head in ("arm", "role", "flow", "items", "blocks", *names):
        table.add_column(head)
    for arm in found["arms"]:
        means = ["" if name not in arm["means"] else f"{arm['means'][name]:.4g}" for name in names]
        table.add_row(
            *(
                _plain(cell)
                for cell in (
                    arm["name"],
                    arm["role"],
                    (arm["flow_hash"] or "")[:12],
                    arm["items"],
                    arm["blocks"],
                    *means,
                )
            )
        )
    Console(width=160).print(table)


@ledger.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where the rows go.")],
    kind: Annotated[str, typer.Option(help="outcomes, blocks, runs, flows or events.")] = "outcomes",
    format: Annotated[
        Optional[str], typer.Option(help="json, csv or parquet; the file's ending when not given.")
    ] = None,
    path: Path_ = None,
    json: options.Json = False,
) -> None:
    """Write rows of one kind for other tools."""
    from vortex_attention.ledger.export import export as write

    with _open(path) as opened:
        count = write(opened, kind, format or file.suffix.removeprefix("."), file)
    print(json_module.dumps({"rows": count, "file": str(file)}) if json else f"{count} rows: {file}")


@ledger.command()
def retract(
    run: RunId,
    reason: Annotated[str, typer.Option(help="What is wrong with it.")],
    path: Path_ = None,
    json: options.Json = False,
) -> None:
    """Take a run out of every look-up and export. Its rows stay in the file."""
    with _open(path) as opened:
        found = opened.run_id(run)
    with _open(path, create=True) as opened:
        opened.retract(found, reason)
    print(json_module.dumps({"retracted": found}) if json else f"retracted: {found}")


@ledger.command()
def check(path: Path_ = None, json: options.Json = False) -> None:
    """Verify the whole file."""
    from vortex_attention.errors import MachineError

    with _open(path) as opened:
        wrong = opened.check()
        where = opened.path
    if wrong:
        raise MachineError(
            "ledger check",
            "a whole file",
            f"{where}: {'; '.join(wrong[:5])}",
            "see docs/ledger.md on what can be saved",
        )
    print(json_module.dumps({"ledger": str(where), "wrong": []}) if json else f"{where}: no error found")


def _plain(cell) -> str:
    """Names come from flows and files: no markup, no control characters."""
    from rich.markup import escape

    from vortex_attention.printable import escaped

    return escape(escaped(cell))
