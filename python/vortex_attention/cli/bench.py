"""`vortex bench`: speed of flows, paired with full attention in the same process: steady decode, or offline throughput on mixes of lengths."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vortex_attention.cli import options

Against = Annotated[
    Optional[str], typer.Option(help="An incumbent, FLOW or FLOW@BUDGET: each flow is timed beside it too.")
]
Resolution = Annotated[
    float,
    typer.Option(min=0, max=50, help="Percent to which ratios are wished: as many rounds as that takes; 0: --rounds."),
]
AgainstRun = Annotated[
    Optional[str],
    typer.Option(
        help="An earlier run of the ledger, by the start of its id, to stand beside: same machine, commit, settings."
    ),
]
Across = Annotated[bool, typer.Option("--across", help="With --against-run: show it whatever differs.")]
Mix = Annotated[
    Optional[str],
    typer.Option(
        help="Offline throughput on mixes of lengths instead of steady decode: fixed, uniform, aime, turns, by commas."
    ),
]
Requests = Annotated[int, typer.Option(min=1, max=100_000, help="Of a mix: requests, of turns conversations.")]
Scale = Annotated[float, typer.Option(min=0.001, max=1000, help="Of a mix: all lengths times this.")]


def bench(
    flows: options.Flows = None,
    model: options.Model = "smollm2",
    load_format: options.LoadFormat = "auto",
    budget: options.Budget = None,
    settings: options.FlowSettings = None,
    kv_dtype: options.KvDtype = "bf16",
    batch: options.Batch = 8,
    context: options.Contexts = "7500",
    rounds: options.Rounds = 6,
    steps: options.Steps = 6,
    against: Against = None,
    resolution: Resolution = 0.0,
    against_run: AgainstRun = None,
    across: Across = False,
    mix: Mix = None,
    requests: Requests = 8,
    scale: Scale = 1.0,
    seed: options.Seed = 1,
    device: options.Device = "cpu",
    deterministic: options.Deterministic = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="On a device: what each kernel of a step takes, its bytes, its share.")
    ] = False,
    threads: options.Threads = 0,
    ledger: options.Ledger = None,
    trust_flow: options.TrustFlow = False,
    json: options.Json = False,
) -> None:
    """Measure decode speed from filled contexts, or offline throughput on mixes of lengths."""
    from vortex_attention.cli import experiment, show
    from vortex_attention.cli.against import EarlierRun

    opened = options.ledger_of(ledger)
    names = flows or ("centroid", "quest", "mean_deviation", "sub_centroid", "slow_means")
    if mix is not None:
        from vortex_attention.cli import mix as job

        asked = job.Wanted(
            mixes=[name.strip() for name in mix.split(",") if name.strip()] or [""],
            flows=names,
            model=model,
            load_format=load_format,
            overrides=options.overrides_of(settings, budget),
            incumbent=against or "",
            requests=requests,
            scale=scale,
            batch=batch,
            rounds=rounds,
            seed=seed,
            threads=threads,
            kv_dtype=kv_dtype,
            device=device,
        )
        with show.Reporter() as reporter:
            result = job.offline(asked, reporter, opened)
        show.print_mixes(result, as_json=json)
        return
    wanted = experiment.Settings(
        model=model,
        load_format=load_format,
        flows=names,
        overrides=options.overrides_of(settings, budget),
        items=0,
        batch=batch,
        contexts=options.numbers_of(context, "--context"),
        rounds=rounds,
        steps=steps,
        device=device,
        threads=threads,
        kv_dtype=kv_dtype,
        deterministic=deterministic,
        profile=profile,
        incumbent=against or "",
        resolution=resolution / 100,
    )
    earlier = EarlierRun(opened, against_run) if against_run else None
    with show.Reporter() as reporter:
        job = experiment.Experiment(wanted, reporter, opened)
        if earlier and not across:
            earlier.require_like(job)
        result = job.run(with_accuracy=False)
    if earlier:
        result["earlier"] = {"run": earlier.id, "facts": earlier.facts, "flows": earlier.beside(job.run_id)}
    show.print_result(result, as_json=json)
