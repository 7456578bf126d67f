"""Batch-1 decode of Vortex beside llama.cpp: the same GGUF file, tokens and threads, blocks llama, vortex, vortex, llama in one process.

usage: PYTHONPATH=python .venv/bin/python benchmarks/beside_llama_cpp.py [--contexts 1024,4096] [--threads 2] [--flow quest]

Needs `pip install llama-cpp-python` in the same environment (built for this machine; it is no dependency of Vortex). Both are
fed the same tokens and their likeliest next tokens are compared: a pair that disagrees on more than a tenth is no result.
"""

import argparse
import time

import llama_cpp
import numpy as np
from pairs import compare, tokens_needed
from vortex_attention import _core, flows
from vortex_attention.models import load_model
from vortex_attention.models.data import natural_text


class Llama:
    """llama.cpp's decode, one token at a time."""

    def __init__(self, path: str, tokens: list[int], room: int, threads: int):
        self.model = llama_cpp.Llama(path, n_ctx=len(tokens) + room, n_batch=512, n_threads=threads, n_threads_batch=threads,
                                     flash_attn=True, verbose=False)  # fmt: skip
        began = time.perf_counter()
        for start in range(0, len(tokens), 512):
            self.model.eval(tokens[start : start + 512])
        self.prefill_seconds = time.perf_counter() - began

    def feed(self, tokens: list[int]) -> list[int]:
        self.model.eval(tokens)
        return [int(np.argmax(np.ctypeslib.as_array(self.model._ctx.get_logits(), (self.model.n_vocab(),))))]


class Vortex:
    """Ours, through the workbench."""

    def __init__(self, model, tokens: list[int], room: int, threads: int, flow: str | None):
        self.bench = _core.Workbench(model, pages=(len(tokens) + room) // 16 + 16, threads=threads, max_batch=1)
        loaded = self.bench.load_flow(flows.load(flow).program) if flow else -1
        began = time.perf_counter()
        base = self.bench.prefill(tokens)
        self.prefill_seconds = time.perf_counter() - began
        self.sequence = self.bench.fork(base, loaded)

    def feed(self, tokens: list[int]) -> list[int]:
        return [int(np.argmax(self.bench.decode([self.sequence], tokens)[0]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contexts", default="1024,4096,7500")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--flow", default=None)
    options = parser.parse_args()
    loaded = load_model("smollm2", threads=options.threads)
    text = loaded.tokenizer.encode(natural_text()[:80_000])
    for context in map(int, options.contexts.split(",")):
        room = tokens_needed(options.rounds, options.steps) + 16
        tokens, following = text[:context], text[context : context + room]
        theirs = Llama(str(loaded.path), tokens, room, options.threads)
        ours = Vortex(loaded.model, tokens, room, options.threads, options.flow)
        pair = compare(theirs, ours, lambda step: [following[step]], options.rounds, options.steps)
        print(
            f"{context} tokens: llama.cpp {pair.theirs:.2f} ms, vortex {options.flow or 'full attention'} {pair.ours:.2f} ms a token, "
            f"{pair.ratio.center:.2f}x [{pair.ratio.low:.2f}, {pair.ratio.high:.2f}]; prefill {context / theirs.prefill_seconds:.0f} and "
            f"{context / ours.prefill_seconds:.0f} tok/s; same likeliest token {pair.agreed}/{pair.compared}", flush=True)  # fmt: skip
        if not options.flow:
            pair.require_agreement(f"{context} tokens")


if __name__ == "__main__":
    main()
