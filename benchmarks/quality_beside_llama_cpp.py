"""How far Vortex and llama.cpp are from a float64 model on the same GGUF file: the KL divergence from the reference's next-token distribution to
each of theirs, over natural text.

usage: PYTHONPATH=python .venv/bin/python benchmarks/quality_beside_llama_cpp.py [--model FILE.gguf] [--tokens 2000] [--float32]

The reference is tests/python/reference/llama.py: weights as the `gguf` package decodes them, keys and values not rounded. Vortex decodes the text token
by token (its bits are the same in prefill); llama.cpp reads it in batches of 512 and, with --decode, also token by token, flash attention on, keys
and values in f16 as it does unless told otherwise. Needs `pip install llama-cpp-python gguf` in the same environment; they are no dependencies of Vortex.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/python"))

from reference.llama import Llama as Reference  # noqa: E402
from vortex_attention import _core  # noqa: E402
from vortex_attention.eval.score import log_softmax  # noqa: E402
from vortex_attention.models import load_model  # noqa: E402
from vortex_attention.models.data import natural_text  # noqa: E402

CHUNK = 250


def reference(path: str, tokens: list[int], dtype) -> np.ndarray:
    """Logits [tokens, vocabulary] in float32."""
    model = Reference.from_gguf(path, dtype=dtype, kv_bfloat16=False)
    cache = model.cache()
    return np.concatenate(
        [
            model.forward([(cache, tokens[start : start + CHUNK])])[0].astype(np.float32)
            for start in range(0, len(tokens), CHUNK)
        ]
    )


def vortex(model, tokens: list[int], threads: int):
    bench = _core.Workbench(model, pages=len(tokens) // 16 + 16, threads=threads, max_batch=1)
    sequence, first = bench.prefill_with_logits(tokens[:1])
    yield first
    for token in tokens[1:]:
        yield bench.decode([sequence], [token])[0]


def llama_cpp(path: str, tokens: list[int], threads: int, batch: int):
    import llama_cpp as package

    model = package.Llama(path, n_ctx=len(tokens) + 16, n_batch=batch, n_ubatch=batch, n_threads=threads, n_threads_batch=threads,
                          flash_attn=True, logits_all=True, verbose=False)  # fmt: skip
    for start in range(0, len(tokens), batch):
        model.eval(tokens[start : start + batch])
        yield from model.scores[start : min(start + batch, len(tokens))]
    model.close()


def compare(name: str, expected: np.ndarray, came) -> None:
    """One line: mean and median divergence with the mean's standard error, and how often the likeliest token agrees."""
    began, divergences, same = time.perf_counter(), [], 0
    for want, got in zip(expected, came):
        p, q = log_softmax(want), log_softmax(got)
        divergences.append(float((np.exp(p) * (p - q)).sum()))
        same += int(np.argmax(want) == np.argmax(got))
    values = np.array(divergences)
    # Neighbouring tokens share their context's error: the standard error is that of blocks of 50.
    blocks = values[: len(values) // 50 * 50].reshape(-1, 50).mean(1)
    print(f"{name:24} KL mean {values.mean():.2e} ± {blocks.std(ddof=1) / len(blocks) ** 0.5:.0e}  median {np.median(values):.2e}  "
          f"99th percentile {np.percentile(values, 99):.2e}  same likeliest token {same}/{len(values)}  ({time.perf_counter() - began:.0f} s)", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--float32", action="store_true", help="the reference in float32: half the memory and time")
    parser.add_argument("--decode", action="store_true", help="llama.cpp also token by token")
    parser.add_argument(
        "--keep", default="", help="a .npy file that holds the reference's logits, written when it is not there"
    )
    options = parser.parse_args()
    loaded = load_model(options.model, threads=options.threads)
    path = str(loaded.path)
    tokens = loaded.tokenizer.encode(natural_text()[: 8 * options.tokens])[: options.tokens]
    if options.keep and Path(options.keep).exists():
        expected = np.load(options.keep, mmap_mode="r")
    else:
        expected = reference(path, tokens, np.float32 if options.float32 else np.float64)
        if options.keep:
            np.save(options.keep, expected)
    print(
        f"{loaded.name}: {len(tokens)} tokens of English essays, reference in {'float32' if options.float32 else 'float64'}",
        flush=True,
    )
    compare("vortex", expected, vortex(loaded.model, tokens, options.threads))
    compare("llama.cpp, batches", expected, llama_cpp(path, tokens, options.threads, 512))
    if options.decode:
        compare("llama.cpp, one by one", expected, llama_cpp(path, tokens, options.threads, 1))


if __name__ == "__main__":
    main()
