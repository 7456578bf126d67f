"""Decode of a batch beside llama.cpp: the same GGUF file, tokens and threads, blocks llama, vortex, vortex, llama in one process.

usage: PYTHONPATH=python .venv/bin/python benchmarks/batch_beside_llama_cpp.py [--model smollm2] [--batch 8] [--context 4096] [--threads 2] [--flow quest]

Each sequence has a KV of its own: llama.cpp computes the context once and copies it to the other sequences' streams; in Vortex a fork would share pages,
so each sequence is prefilled by itself. llama.cpp decodes through its own batch interface, llama_decode with one token of each
sequence, flash attention on. Both are fed the same tokens, another one in each sequence; a pair whose likeliest next tokens differ in more than a
tenth of the cases is no result. Needs `pip install llama-cpp-python`; it is no dependency of Vortex.
"""

import argparse

import llama_cpp
import numpy as np
from pairs import compare, tokens_needed
from vortex_attention import _core, flows
from vortex_attention.models import load_model
from vortex_attention.models.data import natural_text


class Llama:
    """llama.cpp's low-level interface: one context, `batch` sequences."""

    def __init__(self, path: str, tokens: list[int], room: int, batch: int, threads: int):
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = batch * (len(tokens) + room)
        options.n_batch = options.n_ubatch = 512
        options.n_seq_max = batch
        options.n_threads = options.n_threads_batch = threads
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        assert self.model and self.context, "llama.cpp could not open the model or its context"
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)
        self.count, self.length = batch, 0
        for start in range(0, len(tokens), 512):
            self._run([(token, start + i, 0, False) for i, token in enumerate(tokens[start : start + 512])])
        memory = llama_cpp.llama_get_memory(self.context)
        for sequence in range(1, batch):
            llama_cpp.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
        self.length = len(tokens)

    def _run(self, rows: list[tuple[int, int, int, bool]]) -> None:
        self.batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[i], self.batch.pos[i] = token, position
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
            self.batch.logits[i] = wanted
        code = llama_cpp.llama_decode(self.context, self.batch)
        if code != 0:
            raise SystemExit(f"llama.cpp refused the batch: {code}")

    def feed(self, tokens: list[int]) -> list[int]:
        self._run([(token, self.length, sequence, True) for sequence, token in enumerate(tokens)])
        self.length += 1
        rows = [llama_cpp.llama_get_logits_ith(self.context, i) for i in range(self.count)]
        return [int(np.argmax(np.ctypeslib.as_array(row, (self.vocabulary,)))) for row in rows]


class Vortex:
    """Ours, through the workbench."""

    def __init__(self, model, tokens: list[int], room: int, batch: int, threads: int, flow: str | None):
        pages = batch * ((len(tokens) + room) // 16 + 2) + 16
        self.bench = _core.Workbench(model, pages=pages, threads=threads, max_batch=batch)
        loaded = self.bench.load_flow(flows.load(flow).program) if flow else -1
        self.sequences = [self.bench.fork(self.bench.prefill(tokens), loaded) for _ in range(batch)]

    def feed(self, tokens: list[int]) -> list[int]:
        return [int(token) for token in np.argmax(self.bench.decode(self.sequences, tokens), axis=1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--flow", default=None)
    options = parser.parse_args()
    loaded = load_model(options.model, threads=options.threads)
    text = loaded.tokenizer.encode(natural_text()[:200_000])
    room = tokens_needed(options.rounds, options.steps) + 16
    tokens = text[: options.context]
    # Sequence s continues with text of its own.
    following = [text[options.context + s * room : options.context + (s + 1) * room] for s in range(options.batch)]
    theirs = Llama(str(loaded.path), tokens, room, options.batch, options.threads)
    ours = Vortex(loaded.model, tokens, room, options.batch, options.threads, options.flow)
    pair = compare(theirs, ours, lambda step: [row[step] for row in following], options.rounds, options.steps)
    print(
        f"{loaded.name}, batch {options.batch} at {options.context} tokens, {options.threads} threads: llama.cpp {pair.theirs:.1f} ms a step, "
        f"{1000 * options.batch / pair.theirs:.1f} tok/s; vortex {options.flow or 'full attention'} {pair.ours:.1f} ms, {1000 * options.batch / pair.ours:.1f} tok/s; "
        f"{pair.ratio.center:.2f}x [{pair.ratio.low:.2f}, {pair.ratio.high:.2f}]; same likeliest token {pair.agreed}/{pair.compared}", flush=True)  # fmt: skip
    if not options.flow:
        pair.require_agreement(f"batch {options.batch}")


if __name__ == "__main__":
    main()
