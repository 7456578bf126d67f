"""`vortex publish ID`: a plain flow file with its provenance card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from vortex_attention.cli import options


def publish(
    proposal: Annotated[int, typer.Argument(help="The number of a proposal.")],
    out: Annotated[
        Optional[Path],
        typer.Option(help="The file to write, or a folder for it; named after the flow here when not given."),
    ] = None,
    study: Annotated[str, typer.Option(help="The study of the ledger.")] = "first",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    ledger: options.LedgerFile = None,
    json: options.Json = False,
) -> None:
    """Write a proposal as a flow file with its card: figures with intervals, where they were measured, how to measure them again."""
    import json as json_module

    from vortex_attention.discover import verbs
    from vortex_attention.discover.verbs.desk import Desk
    from vortex_attention.discover.verbs.records import to_json
    from vortex_attention.errors import MachineError, UserError
    from vortex_attention.ledger import Ledger

    with Ledger.open(options.ledger_file(ledger), create=False) as opened:
        made = verbs.call(Desk(opened, study, workers=False), "publish", {"proposal": proposal})
    path = (out / made.file_name) if out and out.is_dir() else out or Path(made.file_name)
    if path.suffix != Path(made.file_name).suffix:
        raise UserError(
            "publish",
            f"a name that ends in {Path(made.file_name).suffix}: proposal {proposal} is published as "
            + ("Python" if made.file_name.endswith(".py") else "IR"),
            str(path),
            "name it so, or a folder with --out",
        )
    try:
        with open(path, "w" if force else "x", encoding="utf-8") as file:
            file.write(made.text)
    except FileExistsError:
        raise UserError(
            "publish", "a file that is not there yet", str(path), "name another with --out, or pass --force"
        ) from None
    except OSError as error:
        raise MachineError(
            "publish", f"a file that can be written at {path}", error.strerror or str(error), "name another with --out"
        ) from None
    if json:
        print(json_module.dumps(to_json(made) | {"file": os.fspath(path)}))
    else:
        print(f"{path}: proposal {made.proposal}, hash {made.hash}")
