"""What `vortex trace` and `vortex ablate` print."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.table import Table

from vortex_attention.cli.files import write_text


def write(path: str, text: str) -> None:
    """And says where on standard error, for the result goes to standard output."""
    write_text(path, text)
    print(f"{path}", file=sys.stderr)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def print_trace(result: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    console = _console()
    settings = result["settings"]
    console.print(
        f"{settings['count']} traces of {settings['length']} tokens, {settings['positions']} queries each, in {result['kept']} "
        f"({result['recorded']} recorded now)",
        highlight=False,
        soft_wrap=True,
    )
    print_pages(console, result["pages"], result["page_size"])


def print_pages(console: Console, pages: dict, page_size: int) -> None:
    """How many pages carry the share of the mass: by position, by layer, and in the heads that need most and least."""
    share = f"{100 * pages['share']:g} %"
    console.print(
        f"{share} of a row's attention mass lies in {pages['mean']:.1f} pages of {page_size} tokens (median {pages['median']:.0f}), of "
        f"{pages['there']:.0f} there are, mean over positions, layers and KV heads",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(title=f"pages that carry {share} of the mass, by position")
    for head in ("pages there are", "mean", "median", "the widest head"):
        table.add_column(head, justify="right")
    for part in pages["positions"]:
        table.add_row(f"{part['there']:.0f}", f"{part['mean']:.1f}", f"{part['median']:.0f}", f"{part['most']:.1f}")
    console.print(table)
    table = Table(title="by layer: mean over its KV heads, and each of them")
    for head in ("layer", "mean", "KV heads"):
        table.add_column(head, justify="right" if head != "KV heads" else "left")
    for layer, (mean, heads) in enumerate(zip(pages["layers"], pages["heads"])):
        table.add_row(str(layer), f"{mean:.1f}", "  ".join(f"{value:.1f}" for value in heads))
    console.print(table)


def print_ablation(result: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, allow_nan=False, default=str))
        return
    console = _console()
    settings, kinds = result["settings"], list(result["questions"])
    table = Table(
        title=f"{result['model']['name']}: pages chosen through a lens, {settings['budget']} pages a row of {settings['length']} tokens"
    )
    heads = ["lens", "channels", "mass recall", "worst head", "output error"]
    heads += [f"{kind}: {what}" for kind in kinds for what in ("KL", "log-prob lost", "exact")]
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for lens in result["lenses"]:
        cells = [
            f"{100 * lens['share']:.0f} %",
            f"{lens['recall']:.3f}",
            f"{lens['worst']:.3f}",
            f"{lens['error']:.3f}",
        ]
        for kind in kinds:
            of, exact = lens[kind], lens[kind]["exact"]
            cells += [f"{of['kl']['center']:.4f}", f"{of['loss']['center']:+.3f}", _of(exact)]
        table.add_row(lens["name"], *cells)
    console.print(table)
    for kind in kinds:
        console.print(
            f"{kind}: full attention has {_of(result['full'][kind]['exact'])} exact", style="dim", highlight=False
        )
    print_pages(console, result["pages"], 16)


def _of(proportion: dict) -> str:
    return f"{round(proportion['center'] * proportion['count'])} of {proportion['count']}"
