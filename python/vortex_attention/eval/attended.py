"""Which pages a flow attends at one place: a needle's prompt is prefilled, its last token decoded through the flow."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _core
from ..engine.pages import physical_page_size, pinned
from ..models import load_model
from ..models.data import natural_text
from . import needle


@dataclass(frozen=True)
class Attended:
    """lists: [layers][kv_heads] ascending pages of `page_size` tokens, of `pages` in all."""

    lists: list[list[list[int]]]
    pages: int
    pinned: tuple[int, int]  # at the start and at the end, the open page counted
    page_size: int
    needle_page: int

    @property
    def share(self) -> float:
        """Pages read of all, mean over rows."""
        rows = [row for layer in self.lists for row in layer]
        return sum(map(len, rows)) / len(rows) / self.pages


def attended_pages(
    source, flows: dict, *, length: int, depth_of: int, seed: int, threads: int, kv_dtype: str
) -> dict[str, Attended]:
    """Of each flow (name → program) on one item: the prompt of `length` tokens and seed, the needle in the middle of `depth_of` items."""
    loaded = load_model(source, threads=threads)
    items = needle.make_items(
        natural_text(),
        lambda text: loaded.tokenizer.encode(text, control=True),
        loaded.chat,
        length=length,
        count=depth_of,
        seed=seed,
    )
    item = items[len(items) // 2]
    page = physical_page_size(program.config.page_size for program in flows.values())
    pages = (len(flows) + 2) * (len(item.prompt) // page + 8)
    bench = _core.Workbench(loaded.model, page_size=page, pages=pages, max_batch=1, threads=threads, kv_dtype=kv_dtype)
    base = bench.prefill(list(item.prompt[:-1]))
    shape = loaded.config.layers, loaded.config.attention.kv_heads
    return {
        name: attended(bench, base, program, item.prompt[-1], shape, item.needle_token)
        for name, program in flows.items()
    }


def attended(bench, base: int, program, token: int, shape: tuple[int, int], needle_token: int) -> Attended:
    """What `program` attends when `token` follows the sequence `base`. shape: layers and KV heads of the model."""
    number = bench.load_flow(program)
    sequence = bench.fork(base, number)
    bench.record_pages(True)
    bench.decode([sequence], [token])
    layers, heads = shape
    lists = [[list(bench.page_list(sequence, layer, head)) for head in range(heads)] for layer in range(layers)]
    size = program.config.page_size
    pages = -(-bench.length(sequence) // size)
    ends = tuple(min(count, pages) for count in pinned(program.config))
    bench.release(sequence)
    bench.unload_flow(number)
    return Attended(lists, pages, ends, size, needle_token // size)
