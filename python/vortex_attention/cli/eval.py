"""`vortex eval`: accuracy of flows on single needles in natural text, each item paired with full attention."""

from __future__ import annotations

from vortex_attention.cli import options


def eval(  # noqa: A001  the command's name
    flows: options.Flows = None,
    model: options.Model = "smollm2",
    load_format: options.LoadFormat = "auto",
    budget: options.Budget = None,
    settings: options.FlowSettings = None,
    kv_dtype: options.KvDtype = "bf16",
    items: options.Items = 48,
    length: options.Length = 4096,
    device: options.Device = "cpu",
    threads: options.Threads = 0,
    seed: options.Seed = 1,
    ledger: options.Ledger = None,
    trust_flow: options.TrustFlow = False,
    json: options.Json = False,
) -> None:
    """Measure accuracy, paired with full attention."""
    from vortex_attention.cli import experiment, show

    wanted = experiment.Settings(
        model=model,
        load_format=load_format,
        flows=flows or ("oracle", *experiment.DEFAULT_FLOWS),
        overrides=options.overrides_of(settings, budget),
        items=items,
        length=length,
        seed=seed,
        contexts=(),
        device=device,
        threads=threads,
        kv_dtype=kv_dtype,
    )
    with show.Reporter() as reporter:
        result = experiment.Experiment(wanted, reporter, options.ledger_of(ledger)).run(with_speed=False)
    show.print_result(result, as_json=json)
