"""Which pages a flow reads along a generation: a needle's prompt is prefilled, then the flow answers greedily and goes on, its own tokens fed
back, for as many steps as asked. Ends of answers do not stop it; one prompt, one sequence: a picture, no measurement of accuracy."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import _core
from ..engine.pages import physical_page_size, pinned
from ..models.data import natural_text
from . import needle


@dataclass(frozen=True)
class Along:
    """read: bool [steps, layers, KV heads, pages], a page being `page_size` tokens; pages that do not exist yet at a step are not read.
    pinned: pages at the start and at the end that are read whatever the score. prompt: its tokens."""

    read: np.ndarray
    page_size: int
    pinned: tuple[int, int]
    needle_page: int
    prompt: int

    def to_json(self) -> dict:
        """`read` as bits, deflated, in base64; report.along reads it back."""
        bits = base64.b64encode(zlib.compress(np.packbits(self.read, axis=None).tobytes(), 9)).decode()
        return {"shape": list(self.read.shape), "read": bits, "page_size": self.page_size, "pinned": list(self.pinned),
                "needle_page": self.needle_page, "prompt": self.prompt}  # fmt: skip


def along(
    loaded,
    flows: dict,
    *,
    steps: int,
    length: int,
    seed: int,
    threads: int,
    kv_dtype: str,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> dict[str, Along]:
    """Of each flow (name → program): `steps` tokens after a needle's prompt of `length` tokens, the needle in its middle."""
    items = needle.make_items(
        natural_text(),
        lambda text: loaded.tokenizer.encode(text, control=True),
        loaded.chat,
        length=length,
        count=3,
        seed=seed,
    )
    item = items[len(items) // 2]
    page = physical_page_size(program.config.page_size for program in flows.values())
    pages = (len(flows) + 2) * (-(-(len(item.prompt) + steps + 1) // page) + 8)
    bench = _core.Workbench(loaded.model, page_size=page, pages=pages, max_batch=1, threads=threads, kv_dtype=kv_dtype)
    progress("prompt", 0, 1)
    base = bench.prefill(list(item.prompt[:-1]))
    progress("prompt", 1, 1)
    shape = loaded.config.layers, loaded.config.attention.kv_heads
    return {
        name: _one(
            bench,
            base,
            program,
            item,
            steps,
            shape,
            lambda done, name=name: progress(f"generating through {name}", done, steps),
        )
        for name, program in flows.items()
    }


def _one(bench, base: int, program, item, steps: int, shape: tuple[int, int], progress: Callable[[int], None]) -> Along:
    flow = bench.load_flow(program)
    sequence = bench.fork(base, flow)
    size = program.config.page_size
    pages = -(-(len(item.prompt) + steps) // size)
    read = np.zeros((steps, *shape, pages), dtype=bool)
    token = item.prompt[-1]
    bench.record_pages(True)
    try:
        for step in range(steps):
            logits = bench.decode([sequence], [token])
            for layer in range(shape[0]):
                for head in range(shape[1]):
                    read[step, layer, head, list(bench.page_list(sequence, layer, head))] = True
            token = int(np.asarray(logits[0]).argmax())
            progress(step + 1)
    finally:
        bench.record_pages(False)
        bench.release(sequence)
        bench.unload_flow(flow)
    ends = tuple(min(count, pages) for count in pinned(program.config))
    return Along(read, size, ends, item.needle_token // size, len(item.prompt))
