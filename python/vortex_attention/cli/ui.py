"""`vortex ui`: the live page of a study, in the browser, from this machine to this machine."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vortex_attention.cli import options


def ui(
    study: Annotated[Optional[str], typer.Option(help="The study to show first; the newest when not given.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 for a free one.")] = 8760,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    ledger: Annotated[Optional[str], typer.Option(help="The ledger's file; VORTEX_LEDGER when not given.")] = None,
    json: options.Json = False,
) -> None:
    """Show studies while they run: the round in progress, frontier, family tree, every proposal, failures, cost. Reads only."""
    import json as json_module
    import urllib.parse
    import webbrowser

    from vortex_attention.ledger import Ledger
    from vortex_attention.ui import Server

    with Ledger.open(ledger, create=False) as opened, Server(opened, port) as server:
        if study is not None:
            server.watch.open(study)
        url = server.url + (f"#study={urllib.parse.quote(study, safe='')}" if study is not None else "")
        print(json_module.dumps({"url": url}) if json else f"{url}\nCtrl-C ends it", flush=True)
        if show:
            webbrowser.open(url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
