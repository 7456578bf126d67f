"""`vortex mcp`: the verbs of a study for agents that speak MCP, over stdio or HTTP on this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from vortex_attention.cli import options


def mcp(
    study: Annotated[str, typer.Option(help="The study that is meant when a call names none.")] = "first",
    http: Annotated[bool, typer.Option("--http", help="Streamable HTTP on 127.0.0.1 instead of stdio.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of HTTP; 0: any that is free, said on standard error.")
    ] = 8321,
    agent: Annotated[str, typer.Option(help="Who calls when a call does not say.")] = os.environ.get("USER") or "agent",
    worker: Annotated[
        bool,
        typer.Option(help="Start a worker that outlives the server when something is submitted and none is at work."),
    ] = True,
    idle: Annotated[
        float, typer.Option(min=0.5, help="Seconds without anything to do after which such a worker ends.")
    ] = 120.0,
    ledger: options.LedgerFile = None,
    json: options.Json = False,
) -> None:
    """Serve a study to agents: the verbs of `vortex study` as tools, over stdio, or over HTTP with --http."""
    from vortex_attention.discover.verbs.desk import Desk
    from vortex_attention.errors import MachineError
    from vortex_attention.ledger import Ledger

    path = options.ledger_file(ledger)
    try:
        from vortex_attention.discover import mcp_server
    except ImportError as error:
        raise MachineError("vortex mcp", "the package mcp", str(error), "pip install 'vortex-attention[mcp]'") from None
    with Ledger.open(path) as opened:
        desk = Desk(opened, study, agent=agent, workers=worker, idle=idle)
        mcp_server.run_http(desk, port) if http else mcp_server.run_stdio(desk)
