"""`vortex ablate`: which channels of queries and keys carry the choice of pages."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vortex_attention.cli import options

Texts = Annotated[int, typer.Option(min=1, max=100, help="Texts traced for judging, and as many for learning.")]
Length = Annotated[int, typer.Option(min=512, help="Tokens of a text or a prompt.")]
Positions = Annotated[int, typer.Option(min=1, help="Queries of each text.")]
Groups = Annotated[
    int, typer.Option(min=2, max=64, help="Bands of channels, by the frequency at which RoPE turns them.")
]
Pages = Annotated[int, typer.Option("--budget", min=1, help="Pages of 16 tokens a row attends in all.")]
On = Annotated[
    str,
    typer.Option(help="Suites whose questions the model answers: text, needle, ruler, by commas; none: traces alone."),
]
Questions = Annotated[int, typer.Option(min=1, help="Questions of text and of needle; of ruler one of each task.")]
Share = Annotated[float, typer.Option(min=0.01, max=0.999, help="Of the mass, for the count of pages that carry it.")]
Output = Annotated[Optional[str], typer.Option("--output", "-o", help="Folder for the heat maps, SVG.")]


def ablate(
    model: options.Model = "smollm2",
    length: Length = 2048,
    texts: Texts = 3,
    positions: Positions = 16,
    groups: Groups = 8,
    budget: Pages = 32,
    on: On = "text,needle",
    questions: Questions = 8,
    share: Share = 0.95,
    seed: options.Seed = 1,
    threads: options.Threads = 0,
    snapshots: options.Snapshots = 8.0,
    output: Output = None,
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Keep or mask channels of queries and keys in the score of pages alone; see what recall, KL and answers lose."""
    from vortex_attention.cli import instruments, show
    from vortex_attention.eval.ablation import job
    from vortex_attention.models.data import natural_text

    kinds = tuple(dict.fromkeys(name.strip() for name in on.split(",") if name.strip() and name.strip() != "none"))
    wanted = job.Wanted(
        model=model,
        length=length,
        texts=texts,
        positions=positions,
        groups=groups,
        budget=budget,
        on=kinds,
        questions=questions,
        share=share,
        seed=seed,
        threads=threads,
        snapshots=snapshots,
    )
    with show.Reporter() as reporter:
        result = job.ablate(wanted, natural_text, reporter)
    opened = options.ledger_of(ledger)
    if opened is not None:
        from vortex_attention.measure.provenance import numerics

        with opened.run(
            "ablation",
            suite="ablate",
            model=result["model"]["name"],
            model_sha256=result["model"]["sha256"],
            settings=result["settings"],
            numerics=numerics(kv_dtype="bf16", page_size=16),
        ) as run:
            run.summary = {"result": result}
    instruments.print_ablation(result, as_json=json)  # first: no picture that fails costs the figures
    if output:
        _draw(result, output)


def _draw(result: dict, folder: str) -> None:
    """Heat maps: the recall that is left when a band is masked, and that a band gives alone, by layer; pages that carry the mass."""
    import os

    from vortex_attention.cli import instruments
    from vortex_attention.report.heat import heat_svg

    layers = [f"layer {layer}" for layer in range(result["geometry"]["layers"])]
    for kind, file, said in (
        ("mask band", "without_band", "without one band of channels"),
        ("keep band", "only_band", "with one band of channels alone"),
    ):
        rows = [lens for lens in result["lenses"] if lens["kind"] == kind]
        by_layer = [
            [sum(lens["heads"][layer]) / len(lens["heads"][layer]) for lens in rows] for layer in range(len(layers))
        ]
        names = [lens["name"].split()[-1] for lens in rows]
        title = f"{result['model']['name']}: mass recall of the pages chosen {said}"
        svg = heat_svg(
            title,
            "columns: bands, 0 turns fastest",
            by_layer,
            layers,
            [f"band {name}" for name in names],
            low=0.0,
            high=1.0,
        )
        instruments.write(os.path.join(folder, f"{file}.svg"), svg)
    pages = result["pages"]
    title = (
        f"{result['model']['name']}: pages that carry {100 * pages['share']:g} % of the mass, of {pages['there']:.0f}"
    )
    heads = [f"KV head {head}" for head in range(result["geometry"]["kv_heads"])]
    instruments.write(
        os.path.join(folder, "pages.svg"),
        heat_svg(title, "by layer and KV head", pages["heads"], layers, heads, digits=1),
    )
