"""`vortex bench`: decode speed of flows, paired with full attention in the same process."""

from __future__ import annotations

from vortex_attention.cli import options


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
    device: options.Device = "cpu",
    threads: options.Threads = 0,
    ledger: options.Ledger = None,
    trust_flow: options.TrustFlow = False,
    json: options.Json = False,
) -> None:
    """Measure decode speed from filled contexts."""
    from vortex_attention.cli import experiment, show

    wanted = experiment.Settings(
        model=model,
        load_format=load_format,
        flows=flows or ("centroid", "quest", "mean_deviation", "sub_centroid", "slow_means"),
        overrides=options.overrides_of(settings, budget),
        items=0,
        batch=batch,
        contexts=options.numbers_of(context, "--context"),
        rounds=rounds,
        steps=steps,
        device=device,
        threads=threads,
        kv_dtype=kv_dtype,
    )
    with show.Reporter() as reporter:
        result = experiment.Experiment(wanted, reporter, options.ledger_of(ledger)).run(with_accuracy=False)
    show.print_result(result, as_json=json)
