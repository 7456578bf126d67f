"""Decode at the steady state of long answers on a GPU: as many sequences as fill the pool, each at a random moment of its life.

usage: gpu_mix.py [SHAPE] [FLOW...] [--budget 32] [--gigabytes 90] [--rounds 3] [--steps 16] [--seed 1]

Answers have lognormal lengths (mean 12,000 tokens, sigma 0.8, cut at 32,000) after prompts of 200. A sequence that is met while it runs has a
length drawn in proportion to itself, and has come to a uniform part of it. Weights and KV are random; what is timed are greedy steps of the
whole batch, in blocks full, flow, flow, full, each from the same contexts.
"""

import argparse
import json
import statistics
import time

import numpy as np
from vortex_attention import _core, flows
from vortex_attention.models import load_model


def lengths_in_flight(generator: np.random.Generator, count: int) -> np.ndarray:
    """Tokens of `count` sequences met at a random moment."""
    sigma, mean = 0.8, 12_000
    answers = np.minimum(generator.lognormal(np.log(mean) - sigma**2 / 2, sigma, 100_000), 32_000)
    met = generator.choice(answers, count, p=answers / answers.sum())
    return (200 + generator.random(count) * met).astype(int)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", nargs="?", default="qwen3-1.7b")
    parser.add_argument("flows", nargs="*", default=("centroid",))
    parser.add_argument("--budget", type=int, default=32)
    parser.add_argument("--gigabytes", type=float, default=90, help="of K and V")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    chosen = parser.parse_intermixed_args()
    loaded = load_model(chosen.shape, load_format="dummy", device=chosen.device)
    attention = loaded.config.attention
    token_bytes = loaded.config.layers * attention.kv_heads * attention.token_bytes
    pages = int(chosen.gigabytes * 1e9 / token_bytes / 16)
    slack = -(-chosen.steps // 16) + 3  # pages of a block's new tokens and the copied open page
    lengths: list[int] = []
    for length in lengths_in_flight(np.random.default_rng(chosen.seed), 256):
        if sum(-(-n // 16) + slack for n in [*lengths, int(length)]) > pages:
            break
        lengths.append(int(length))
    bench = _core.Workbench(loaded.model, pages=pages, max_batch=len(lengths), max_context=32_768)
    ids = {name: bench.load_flow(flows.load_flow(name, budget=str(chosen.budget))) for name in chosen.flows}
    bases = [bench.fill(length, seed) for seed, length in enumerate(lengths)]
    print(f"{loaded.name} on {loaded.model.device}: {len(lengths)} sequences, {np.mean(lengths):.0f} tokens each in the mean, "
          f"{sum(lengths)} in all", flush=True)  # fmt: skip

    def block(flow: int) -> float:
        sequences = [bench.fork(base, flow) for base in bases]
        try:
            tokens = bench.greedy(sequences, [1] * len(sequences), 1)
            began = time.perf_counter()
            bench.greedy(sequences, tokens, chosen.steps)
            return (time.perf_counter() - began) / chosen.steps
        finally:
            for sequence in sequences:
                bench.release(sequence)

    rows = []
    for name, flow in ids.items():
        for which in (-1, flow):
            block(which)  # graphs and summaries
        pairs = []
        for _ in range(chosen.rounds):
            before, first, second, after = (block(which) for which in (-1, flow, flow, -1))
            pairs.append(((before + after) / 2, (first + second) / 2))
        full, sparse = (statistics.median(column) for column in zip(*pairs))
        ratios = [a / b for a, b in pairs]
        rows.append({"flow": name, "full_ms": 1000 * full, "ms": 1000 * sparse, "ratios": ratios,
                     "tokens_per_second": len(lengths) / sparse})  # fmt: skip
        print(f"{name}: full {1000 * full:.2f} ms a step, {name} {1000 * sparse:.2f} ms, {statistics.median(ratios):.2f} × "
              f"[{min(ratios):.2f}, {max(ratios):.2f}], {len(lengths) / sparse:.0f} tokens/s", flush=True)  # fmt: skip
    print(
        json.dumps(
            {
                "device": loaded.model.device,
                "shape": loaded.name,
                "sequences": len(lengths),
                "lengths": lengths,
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
