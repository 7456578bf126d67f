"""What `vortex check` predicts beside what a step takes, for the ready flows on this machine's CPU.

    PYTHONPATH=python python benchmarks/price_beside_measured.py [--context 7500] [--kept FILE] [--fresh] [FLOW...]

The profile of the machine is the kept one (`vortex check --measure`), or measured first. Each flow is timed in blocks full attention, flow, flow,
full attention; a flow's step is the median of flow ÷ full over the pairs, times the median step of full attention in the whole run, so that a
neighbour who takes the machine for a while moves both sides of a pair; a block in which full attention itself took 15 % longer the second time is
made again. Ends with 1 when a prediction is further than 25 % from its step. Flows whose
lists are as long as the numbers have it (top_p) are priced at most, and marked. --kept FILE keeps what was measured, so that a run can be made
in pieces: flows that are there are not measured again. --fresh measures the profile anew.
"""

import argparse
import json
import os
import statistics
import sys

from vortex_attention import _core, flows
from vortex_attention.bench import decode, profile
from vortex_attention.engine.pages import physical_page_size
from vortex_attention.measure import machine
from vortex_attention.measure.devices import predict
from vortex_attention.models import load_model, open_source
from vortex_attention.models.geometry import geometry_of

BOUND = 0.25
UNSIZED = ("top_p(", "threshold(")
STEPS = 4
STEADY, AGAIN = 1.15, 6  # a block whose two full-attention steps differ by more is made again, so often at most


def measure(bench, model, base: list[int], program, rounds: int) -> dict:
    """Seconds of a step in blocks full, flow, flow, full, and of the flow's parts."""
    flow = bench.load_flow(program)
    quartets, disturbed = [], 0
    try:
        while len(quartets) < rounds:
            quartet = [decode.time_block(bench, model, base, which, STEPS, 1) for which in (-1, flow, flow, -1)]
            first, last = quartet[0].seconds, quartet[3].seconds
            if max(first, last) <= STEADY * min(first, last) or disturbed == AGAIN:
                quartets.append(quartet)
            else:
                disturbed += 1
    finally:
        bench.unload_flow(flow)
    own = [block for quartet in quartets for block in quartet[1:3]]
    return {
        "full": [block.seconds for quartet in quartets for block in (quartet[0], quartet[3])],
        "flow": [block.seconds for block in own],
        "ratios": [
            (quartet[1].seconds + quartet[2].seconds) / (quartet[0].seconds + quartet[3].seconds)
            for quartet in quartets
        ],
        "disturbed": disturbed,
        "parts": {part: statistics.median(block.parts[part] for block in own) for part in decode.PARTS},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "flows", nargs="*", default=[name for name in flows.names() if not flows.ready(name).parameters]
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=7500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kept")
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    shape, batch, context = geometry_of(arguments.model), arguments.batch, arguments.context
    threads = _core.thread_count()
    of = {
        "model": shape.name,
        "weight_bytes": shape.weight_bytes,
        "batch": batch,
        "kv_dtype": "bf16",
        "threads": threads,
    }
    source = open_source(arguments.model)
    device = None if arguments.fresh else machine.find(**of)
    device = device or profile.measure(source, **of)
    print(device)
    kept = {}
    if arguments.kept and os.path.exists(arguments.kept):
        with open(arguments.kept, encoding="utf-8") as file:
            kept = json.load(file)
    programs = {name: flows.load_flow(name) for name in arguments.flows}
    if missing := [name for name in programs if name not in kept]:
        loaded = load_model(source, threads=threads)
        page = physical_page_size(program.config.page_size for program in programs.values())
        pages = batch * (context // page + 8) + 8
        bench = _core.Workbench(loaded.model, page_size=page, pages=pages, threads=threads, max_batch=batch)
        base = [bench.fill(context, seed) for seed in range(1, batch + 1)]
        for name in missing:
            kept[name] = measure(bench, loaded.model, base, programs[name], arguments.rounds)
            print(f"{name}: {1000 * statistics.median(kept[name]['flow']):.1f} ms", file=sys.stderr, flush=True)
            if arguments.kept:
                with open(arguments.kept, "w", encoding="utf-8") as file:
                    json.dump(kept, file)
    full_measured = statistics.median(seconds for name in programs for seconds in kept[name]["full"])
    print(f"{batch} × {context} tokens, {threads} threads, {device.read / 1e9:.1f} GB/s")
    print(
        f"{'flow':22}{'measured':>9}{'predicted':>10}{'ratio':>7}{'× full':>8}{'said':>7}  {'bound by':12} score, select, attend, other: measured and predicted"
    )
    worst, within = "", {}
    for name, program in programs.items():
        measured = kept[name]
        step = statistics.median(measured["ratios"]) * full_measured
        price = _core.price(
            _core.compile_flow(program, **shape.bound), **shape.workload, context=context + 3, batch=batch
        )
        said = predict(price, device, layers=shape.layers, kv_heads=shape.kv_heads, batch=batch)
        unsized = any(op in program.text() for op in UNSIZED)
        if not unsized:
            within[name] = said.step / step
        parts = [
            " ".join(f"{1000 * value:.1f}" for value in values)
            for values in (
                [measured["parts"][part] for part in ("score", "select", "attend", "other")],
                [said.score, said.select, said.attend, said.linears],
            )
        ]
        print(
            f"{name:22}{1000 * step:9.2f}{1000 * said.step:10.2f}{said.step / step:7.2f}{1 / statistics.median(measured['ratios']):8.2f}{said.speedup:7.2f}  "
            f"{said.bound:12} {parts[0]}; {parts[1]}{'  (priced at most)' if unsized else ''}"
        )
        full = said.full
    within["full attention"] = full / full_measured
    print(f"{'full attention':22}{1000 * full_measured:9.2f}{1000 * full:10.2f}{full / full_measured:7.2f}")
    worst = max(within, key=lambda name: abs(within[name] - 1))
    good = sum(abs(ratio - 1) <= BOUND for ratio in within.values())
    print(f"{sum(kept[name].get('disturbed', 0) for name in programs)} blocks were made again")
    print(f"{good} of {len(within)} within {BOUND:.0%}; furthest: {worst}, {within[worst]:.2f} of the measured step")
    return int(good < len(within))


if __name__ == "__main__":
    sys.exit(main())
