"""A real model on the GPU: its text beside the CPU engine's, and what flows lose and gain on long real text.

usage: gpu_real_model.py MODEL [--contexts 16384,30000] [--batch 8] [--steps 64] [--budget 32] [--device cuda] [FLOW...]

1. Greedy answers of the CPU engine are fed to the GPU token by token: where the GPU would have said another token, its logits
   say by how much (a near tie); the mean KL divergence from one to the other stands beside.
2. `batch` pieces of natural text, a prefill each, then `steps` tokens fed through full attention and through each flow:
   KL(full ‖ flow) in nats, the share of steps with full attention's likeliest token, tokens a row attended, and tokens a second of
   greedy decoding from the same contexts. One JSON object at the end.
"""

import argparse
import concurrent.futures
import json
import time

import numpy as np
from vortex_attention import _core, flows
from vortex_attention.engine.pages import physical_page_size
from vortex_attention.errors import UserError
from vortex_attention.models import load_model
from vortex_attention.models.data import natural_text

QUESTIONS = (
    "Write a Python function that returns the n-th Fibonacci number.",
    "Explain in three sentences why the sky is blue.",
    "What does this do? for (int i = 0; i < n; ++i) s += a[i] * b[i];",
    "List the first ten prime numbers and say how you found them.",
)
FLOWS = ("centroid", "quest", "mean_deviation", "sub_centroid", "slow_means", "value_norm", "bounding_volumes", "streaming",
         "random_pages", "recent_only", "oracle")  # fmt: skip


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def kl(full: np.ndarray, other: np.ndarray) -> np.ndarray:
    a, b = log_softmax(full), log_softmax(other)
    return (np.exp(a) * (a - b)).sum(-1)


def compare_text(model: str, loaded, device: str, tokens: int) -> dict:
    cpu = load_model(model)
    on_cpu = _core.Workbench(cpu.model, pages=400, max_context=2048)
    on_gpu = _core.Workbench(loaded.model, pages=400, max_context=2048)
    same, gaps, divergences, count = 0, [], [], 0
    for question in QUESTIONS:
        prompt = cpu.tokenizer.encode(cpu.chat(question), control=True)
        a, first = on_cpu.prefill_with_logits(prompt)
        b, second = on_gpu.prefill_with_logits(prompt)
        for _ in range(tokens):
            chosen = int(first.argmax())
            if chosen in cpu.stop_tokens:
                break
            count += 1
            same += int(second.argmax()) == chosen
            gaps.append(float(second.max() - second[chosen]))
            divergences.append(float(kl(first, second)))
            first, second = on_cpu.decode([a], [chosen])[0], on_gpu.decode([b], [chosen])[0]
    result = {"tokens": count, "same": same, "largest_gap": max(gaps), "kl": float(np.mean(divergences))}
    print(f"text: {same} of {count} tokens the same; where not, the {device}'s logits differ by at most {max(gaps):.3f}; "
          f"mean KL {np.mean(divergences):.2e}", flush=True)  # fmt: skip
    return result


def measure(loaded, names, budget: int, context: int, batch: int, steps: int) -> list[dict]:
    arms = {}
    for name in names:
        arms[name] = flows.load_flow(name, budget=str(budget)) if name else None
    page_size = physical_page_size(flow.config.page_size for flow in arms.values() if flow)
    bench = _core.Workbench(
        loaded.model,
        page_size=page_size,
        pages=batch * (context // page_size + 1 + len(arms) + 20 * (2 * steps // page_size + 2)),
        max_batch=batch,
        max_context=min(context + 2 * steps + 64, loaded.config.context),
        chunk_tokens=loaded.chunk_tokens,
    )
    ids = {}
    for name, flow in arms.items():
        try:
            ids[name] = bench.load_flow(flow) if flow else -1
        except UserError as error:
            print(f"{name}: {error}", flush=True)
    tokens = loaded.tokenizer.encode(natural_text())
    pieces = [tokens[i * (context + steps) : (i + 1) * (context + steps)] for i in range(batch)]
    began = time.perf_counter()
    bases = [bench.prefill(piece[:context]) for piece in pieces]
    seconds = time.perf_counter() - began
    print(
        f"context {context}: prefill of {batch} × {context} tokens {seconds:.2f} s, {batch * context / seconds:.0f} tokens/s",
        flush=True,
    )
    rows, full = [], None
    for name, flow in ids.items():
        sequences = [bench.fork(base, flow) for base in bases]
        bench.reset_statistics()
        logits = []
        for step in range(steps):
            logits.append(bench.decode(sequences, [piece[context + step] for piece in pieces]))
        counted = bench.statistics
        full = logits if full is None else full
        with concurrent.futures.ThreadPoolExecutor() as pool:
            divergence = np.array(list(pool.map(kl, full, logits)))  # [steps, batch]
        same = np.array([(a.argmax(-1) == b.argmax(-1)) for a, b in zip(full, logits)])
        for sequence in sequences:
            bench.release(sequence)
        sequences = [bench.fork(base, flow) for base in bases]
        chosen = bench.greedy(sequences, [1] * batch, 2)
        began = time.perf_counter()
        bench.greedy(sequences, chosen[-batch:], steps)
        rate = batch * steps / (time.perf_counter() - began)
        for sequence in sequences:
            bench.release(sequence)
        of_piece = divergence.mean(0)
        rows.append({
            "flow": name or "full", "context": context, "batch": batch, "kl": float(of_piece.mean()),
            "kl_error": float(of_piece.std(ddof=1) / np.sqrt(batch)) if batch > 1 else 0.0,
            "top1": float(same.mean()), "attended": counted.attended_tokens / counted.rows, "tokens_per_second": rate,
        })  # fmt: skip
        row = rows[-1]
        print(f"  {row['flow']:18} KL {row['kl']:.4f} ± {row['kl_error']:.4f}  top-1 {100 * row['top1']:5.1f} %  "
              f"{row['attended']:6.0f} tokens a row  {rate:6.0f} tokens/s  {rate / rows[0]['tokens_per_second']:.2f} × full", flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("flows", nargs="*", default=FLOWS)
    parser.add_argument("--contexts", default="16384,30000")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--budget", type=int, default=32)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--text", type=int, default=64, help="tokens of each answer that is compared; 0: none")
    chosen = parser.parse_intermixed_args()
    began = time.perf_counter()
    loaded = load_model(chosen.model, device=chosen.device)
    print(f"{loaded.name} on {loaded.model.device}: loaded in {time.perf_counter() - began:.1f} s", flush=True)
    result = {"device": loaded.model.device, "model": loaded.name, "budget": chosen.budget, "rows": []}
    if chosen.text:
        result["text"] = compare_text(chosen.model, loaded, chosen.device, chosen.text)
    for context in chosen.contexts.split(","):
        result["rows"] += measure(
            loaded, (None, *chosen.flows), chosen.budget, int(context), chosen.batch, chosen.steps
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
