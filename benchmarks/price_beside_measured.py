"""What `vortex check` predicts beside what `vortex bench` measures, for the ready flows on this machine's CPU.

    PYTHONPATH=python python benchmarks/price_beside_measured.py [--context 7500] [FLOW...]

Measures the profile of the machine first, then each flow's step (the fastest of its blocks), and prints predicted ÷ measured. Ends with
1 when a prediction is further than 25 % from its step. Flows whose lists are as long as the numbers have it (top_p) are priced at most,
and marked.
"""

import argparse
import os
import sys

from vortex_attention import _core, flows
from vortex_attention.bench import decode, profile
from vortex_attention.models.geometry import geometry_of
from vortex_attention.engine.pages import physical_page_size
from vortex_attention.measure.devices import predict
from vortex_attention.models import load_model, open_source

BOUND = 0.25
UNSIZED = ("top_p(", "threshold(")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "flows", nargs="*", default=[name for name in flows.names() if not flows.ready(name).parameters]
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=7500)
    parser.add_argument("--blocks", type=int, default=3)
    arguments = parser.parse_args()
    shape, batch, context = geometry_of(arguments.model), arguments.batch, arguments.context
    threads = int(_core.env("VORTEX_THREADS")) or len(os.sched_getaffinity(0))
    source = open_source(arguments.model)
    device = profile.measure(
        source, model=shape.name, weight_bytes=shape.weight_bytes, batch=batch, kv_dtype="bf16", threads=threads
    )
    loaded = load_model(source, threads=threads)
    programs = {name: flows.load_flow(name) for name in arguments.flows}
    page = physical_page_size(program.config.page_size for program in programs.values())
    bench = _core.Workbench(
        loaded.model, page_size=page, pages=batch * (context // page + 8) + 8, threads=threads, max_batch=batch
    )
    base = [bench.fill(context, seed) for seed in range(1, batch + 1)]
    worst, full_measured = (
        0.0,
        min(decode.time_block(bench, loaded.model, base, -1, 4, 1).seconds for _ in range(arguments.blocks)),
    )
    print(f"{batch} × {context} tokens, {threads} threads, {device.read / 1e9:.1f} GB/s")
    print(
        f"{'flow':20}{'measured':>10}{'predicted':>11}{'ratio':>8}   bound by      measured and predicted: score, select, attend, other"
    )
    for name, program in programs.items():
        flow = bench.load_flow(program)
        blocks = [decode.time_block(bench, loaded.model, base, flow, 4, 1) for _ in range(arguments.blocks)]
        bench.unload_flow(flow)
        best = min(blocks, key=lambda block: block.seconds)
        price = _core.price(
            _core.compile_flow(program, **shape.bound), **shape.workload, context=context + 3, batch=batch
        )
        said = predict(price, device, layers=shape.layers, kv_heads=shape.kv_heads, batch=batch)
        ratio = said.step / best.seconds
        unsized = any(op in program.text() for op in UNSIZED)
        worst = worst if unsized else max(worst, abs(ratio - 1))
        parts = [f"{1000 * best.parts[part]:.1f}" for part in ("score", "select", "attend", "other")]
        parts += [f"{1000 * part:.1f}" for part in (said.score, said.select, said.attend, said.linears)]
        print(
            f"{name:20}{1000 * best.seconds:10.2f}{1000 * said.step:11.2f}{ratio:8.2f}   {said.bound:13}{' '.join(parts)}{'  (priced at most)' if unsized else ''}"
        )
        full = said.full
    print(f"{'full attention':20}{1000 * full_measured:10.2f}{1000 * full:11.2f}{full / full_measured:8.2f}")
    print(f"the furthest prediction is {worst:.0%} off")
    return int(worst > BOUND or abs(full / full_measured - 1) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
