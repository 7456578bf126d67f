"""`vortex check`: is a flow right, and what will it cost. Reads no model and measures nothing, unless --measure asks for it."""

from vortex_attention.cli import shared
from vortex_attention.cli.declare import Argument, Option, plainly

SCHEMA = 1  # of the JSON, docs/commands.md


@plainly(
    flows=Argument(of=[str], help="Ready flows' names, .py files, or file.py:Class.", metavar="FLOW"),
    model=Option(
        of=str,
        help="The model to price for: a known name or shape, or the path of a .gguf file or of a Hugging Face folder.",
    ),
    context=Option(of=[int], max=2**30, help="Tokens of a sequence; may be given several times."),
    batch=Option(of=int, max=2**30, help="Sequences of a decode step."),
    device=Option(of=str, help="Where it will run: cpu (this machine), h200 or h100."),
    measure=Option(
        "--measure", of=bool, help="Measure this machine with the model first, once, for predictions that fit."
    ),
    budget=shared.BUDGET,
    settings=shared.SETTINGS,
    kv_dtype=shared.KV_DTYPE,
    trust_flow=shared.TRUST_FLOW,
    as_json=shared.JSON,
)
def check(
    flows,
    model="smollm2",
    context=None,
    batch=8,
    device="cpu",
    measure=False,
    budget=None,
    settings=None,
    kv_dtype="bf16",
    trust_flow=False,
    as_json=False,
):
    """Check flows and price them: errors with the line of your file, bytes and operations, the predicted step and its bound."""
    from vortex_attention.models.geometry import geometry_of

    shape = geometry_of(model, kv_dtype)
    contexts = context or [length for length in (1024, 2048, 4096, 8192, 16384, 32768) if length <= shape.context]
    plans = [_plan(flow, shape, shared.overrides_of(settings, budget)) for flow in flows]
    rates = _device(device, measure, model, shape, batch)
    reports = [_report(*plan, shape, contexts, batch, rates) for plan in plans]
    if as_json:
        import json

        print(json.dumps(reports if len(reports) > 1 else reports[0]))
    else:
        print("\n\n".join(_text(report, shape, batch) for report in reports))


def _plan(flow: str, shape, settings: dict[str, str]):
    from vortex_attention import _core
    from vortex_attention.flows import read_flow

    loaded = read_flow(flow, **settings)
    return flow, loaded, _core.compile_flow(loaded.program, **shape.bound)


def _device(name: str, measure: bool, model: str, shape, batch: int):
    from vortex_attention import _core
    from vortex_attention.errors import UserError
    from vortex_attention.measure import devices, machine

    if name != "cpu":
        if measure:
            raise UserError("--measure", "--device cpu", name, "leave one of them out")
        return devices.device_named(name)
    threads = _core.thread_count()
    of = dict(weight_bytes=shape.weight_bytes, batch=batch, kv_dtype=shape.kv_dtype, threads=threads)
    if measure:
        from vortex_attention.bench import profile
        from vortex_attention.models import open_source
        from vortex_attention.models.dummy_source import known_shapes

        source = open_source(model, "dummy" if model in known_shapes() else "auto")
        return profile.measure(source, **of, model=shape.name)
    return machine.find(model=shape.name, **of) or devices.cpu_estimate(machine.read_rate(threads), threads)


def _report(flow: str, loaded, plan, shape, contexts: list[int], batch: int, device) -> dict:
    from vortex_attention import _core
    from vortex_attention.measure.devices import predict

    rows = []
    for length in contexts:
        price = _core.price(plan, **shape.workload, context=length, batch=batch)
        names = [name for name in dir(price) if not name.startswith("_")]
        predicted = predict(price, device, layers=shape.layers, kv_heads=shape.kv_heads, batch=batch)
        rows.append(
            {"context": length, **{name: getattr(price, name) for name in names}, "predicted": predicted.to_json()}
        )
    program = loaded.program
    return {
        "schema": SCHEMA,
        "flow": flow,
        "name": program.name,
        "doc": program.doc,
        "hash": program.hash,
        "sandbox": loaded.sandbox,
        "traced_before": loaded.kept,
        "unused": list(loaded.unused),
        "settings": str(program.config),
        "reuse": {
            layer: source for layer in range(shape.layers) if (source := program.config.source_of(layer)) != layer
        },
        "refresh_every": program.config.refresh_every,
        "rest": program.rests,
        "summaries": program.summaries,
        "stages": plan.stages,
        "model": shape.name,
        "kv_dtype": shape.kv_dtype,
        "batch": batch,
        "device": {"name": device.name, "gigabytes_per_second": device.read / 1e9, "rates": device.how},
        "prices": rows,
    }


def _size(value: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return ""


def _carried(report: dict) -> list[str]:
    """What of the settings saves scoring, and what a sequence carries for it from step to step."""
    last = report["prices"][-1]
    lines = []
    read, flat = last["score_bytes"], last["flat_score_bytes"]
    if flat and read < 0.99 * flat:
        lines.append(
            f"  saved      {_size(flat - read)} of {_size(flat)}: what every page's summaries in every sparse layer would be to read at every step"
        )
    if report["rest"]:
        lines.append("  rest       pages that are not chosen are estimated; what it reads is in the summaries' bytes")
    if report["reuse"]:
        lines.append(f"  reuse      {len(report['reuse'])} layers take the set of an earlier layer")
    if report["refresh_every"] > 1:
        lines.append(
            f"  refresh    a set is chosen every {report['refresh_every']} steps; new pages are added in between"
        )
    if last["carried_bytes_per_sequence"]:
        lines.append(
            f"  carried    {last['carried_bytes_per_sequence'] / 1e6:.2f} MB a sequence of {last['context']} tokens, from step to step"
        )
    return lines


def _text(report: dict, shape, batch: int) -> str:
    first, last = report["prices"][0], report["prices"][-1]
    summaries = ", ".join(f"{name} {kind}" for name, kind in report["summaries"].items()) or "none"
    share = first["summary_bytes_per_page"] / first["kv_bytes_per_page"]
    device = report["device"]
    lines = [
        f"{report['flow']}: {report['name']} is right"
        + (f" - {report['doc'].splitlines()[0]}" if report["doc"] else ""),
        f"  settings   {report['settings']}",
        f"  summaries  {summaries}; {first['summary_bytes_per_page']} bytes a page and KV head, {share:.1%} of its keys and values",
        f"  memory     {_size(last['kv_pool_bytes'])} of keys and values, {_size(last['summary_pool_bytes'])} of summaries"
        f" for {batch} × {last['context']} tokens",
        *_carried(report),
        f"  stages     of a row of a layer at {last['context']} tokens: " + (_stages(last["stages"]) or "none"),
        f"  hash       {report['hash']}",
        f"  one decode step, batch {batch}, on {shape}",
        f"  {device['name']} at {device['gigabytes_per_second']:.0f} GB/s, {device['rates']}",
        "  context   pages  attended     MB read    of full  bytes say   light, ms   step, ms   full, ms   speed-up  bound by",
    ]
    if report["unused"]:
        lines.insert(2, f"  not used   {', '.join(report['unused'])}: of another engine")
    for row in report["prices"]:
        said = row["predicted"]
        read = row["weight_bytes"] + row["score_bytes"] + row["attend_bytes"]
        full = row["weight_bytes"] + row["full_attention_bytes"]
        lines.append(
            f"  {row['context']:7}{row['pages']:8}{row['attended_pages']:10}{read / 1e6:12.1f}{read / full:11.0%}{row['step_speedup']:10.2f}x"
            f"{said['speed_of_light_milliseconds']:12.2f}{said['milliseconds']:11.2f}{said['full_milliseconds']:11.2f}"
            f"{said['speedup']:10.2f}x  {said['bound']}"
        )
    return "\n".join(lines)


def _stages(stages: list[dict]) -> str:
    return ", ".join(f"{row['stage']} {_size(row['read_bytes'])} {_operations(row['operations'])}" for row in stages)


def _operations(count: float) -> str:
    return f"{count / 1e6:.3g} Mflop" if count >= 1e6 else f"{count / 1e3:.3g} kflop"
