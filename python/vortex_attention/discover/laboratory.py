"""Where proposals are measured: one model on a workbench, items prefilled once (a study that goes on takes them from snapshots), contexts
filled once, both kept for every flow.

Accuracy and speed of a flow come from the same loaded program on the same engine. Needles of `screen`, `gate` and every `confirm` are
different items in places of their own; a confirm's are made when they are asked for and gone after it. Refuses to measure where a flow
that looks at nothing does well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from .. import _core
from ..bench.decode import Block, allowed_tokens, check_pages, time_block
from ..engine.pages import physical_page_size
from ..errors import UserError
from ..eval import needle
from ..eval.score import Outcome, score
from ..eval.snapshots import Snapshots
from ..fetch import cache_folder
from ..flows import ready
from ..measure.finite import require_finite
from ..measure.provenance import numerics
from ..models import load_model, open_source
from ..models.data import natural_text
from . import honesty
from .mutate import Geometry

BATCH = 8  # items that are decoded together
CONTROL = "recent_only"


def price_facts(price: _core.Price) -> dict:
    """The part of a price that gates keep: bytes of a step of the batch, and the speed-up that they promise."""
    names = ("score_bytes", "select_bytes", "attend_bytes", "weight_bytes", "full_attention_bytes", "step_speedup",
             "summary_bytes_per_page", "kv_bytes_per_page")  # fmt: skip
    return {name: getattr(price, name) for name in names}


@dataclass(frozen=True)
class Workload:
    """What every flow of a study is measured on. Lengths in tokens."""

    model: str = "smollm2"
    length: int = 4096
    screen_items: int = 6
    gate_items: int = 24
    confirm_items: int = 48
    batch: int = 8
    context: int = 4096
    rounds: int = 3
    confirm_rounds: int = 6
    steps: int = 4
    seed: int = 1
    threads: int = 0

    def to_json(self) -> dict:
        return asdict(self)


@dataclass
class _Held:
    """An item with its prefilled sequence and full attention's logits."""

    item: needle.NeedleItem
    sequence: int
    full: np.ndarray  # [answer tokens, vocabulary]


@dataclass(frozen=True)
class ItemResult:
    name: str
    full: Outcome
    flow: Outcome


Progress = Callable[[str, int, int], None]


class Laboratory:
    """progress(what, done, of) is told of what takes long. snapshots: gigabytes of prefilled items that the cache may hold."""

    def __init__(self, workload: Workload, progress: Progress = lambda what, done, of: None, *, snapshots: float = 8.0):
        self.workload, self.progress = workload, progress
        self.source = open_source(workload.model)
        longest = max(workload.length + 32, workload.context + workload.steps + 2)
        if longest > self.source.config.context:
            raise UserError(
                "discover",
                f"at most {self.source.config.context} tokens, the context of {self.source.name}",
                f"{longest} tokens",
                "lower --length or --context",
            )
        self.loaded = load_model(self.source, threads=workload.threads)
        attention = self.loaded.config.attention
        self.geometry = Geometry(attention.head_dim, attention.group, attention.value_dim, self.loaded.config.layers)
        self.page_size = physical_page_size([16])
        per_item = -(-(workload.length + 32) // self.page_size) + 4
        held = workload.screen_items + workload.gate_items + BATCH
        filled = workload.batch * (-(-(workload.context + workload.steps + 2) // self.page_size) + 4)
        self.bench = _core.Workbench(
            self.loaded.model,
            page_size=self.page_size,
            pages=held * per_item + filled + 4 * BATCH,
            threads=workload.threads,
            max_batch=max(BATCH, workload.batch),
        )
        self.numerics = numerics(kv_dtype="bf16", page_size=self.page_size)
        self.snapshots = Snapshots(cache_folder("snapshots"), int(snapshots * 1e9), lambda line: progress(line, 1, 1))
        self._items: dict[str, list[_Held]] = {}
        self._filled: list[int] = []
        self._control: float | None = None  # nat that CONTROL gains on the screen's items

    @property
    def model(self) -> tuple[str, str]:
        """Name and sha256."""
        return self.loaded.name, self.loaded.sha256

    def price(self, program: _core.Program) -> dict:
        """Bytes of a step and the speed-up that they promise, from the IR alone."""
        attention, config, workload = self.loaded.config.attention, self.loaded.config, self.workload
        plan = _core.compile_flow(
            program, head_dim=attention.head_dim, group=attention.group, value_dim=attention.value_dim
        )
        price = _core.price(
            plan,
            layers=config.layers,
            heads=config.heads,
            kv_heads=attention.kv_heads,
            head_dim=attention.head_dim,
            context=workload.context,
            batch=workload.batch,
            weight_bytes=self.loaded.model.weight_bytes,
        )
        return price_facts(price)

    def require_need(self, least: float) -> None:
        """UserError when a flow that attends the first and the last pages only loses less than `least` nat on the screen's items. Measured once."""
        if self._control is None:
            results = [result for batch in self.accuracy(ready(CONTROL), "screen") for result in batch]
            self._control = sum(result.flow.log_probability - result.full.log_probability for result in results) / len(
                results
            )
        if why := honesty.no_need(self._control, CONTROL, least):
            raise UserError("discover", *why)

    # Accuracy

    def accuracy(self, program: _core.Program, part: str, seed: int = 0) -> Iterator[list[ItemResult]]:
        """Batches of items. part: "screen", "gate", or "confirm" with a seed of its own."""
        flow = self.bench.load_flow(program)
        try:
            for batch in self._batches(part, seed):
                yield [
                    ItemResult(
                        held.item.name,
                        score(held.full, held.full, held.item.answer, float(len(held.item.prompt))),
                        outcome,
                    )
                    for held, outcome in zip(batch, self._decode(batch, flow))
                ]
        finally:
            self.bench.unload_flow(flow)

    def behaviour(self, program: _core.Program) -> str:
        """Fingerprint of the pages chosen by every layer and head on the screen's items, at every token of each answer."""
        flow, chosen = self.bench.load_flow(program), hashlib.sha256()
        self.bench.record_pages(True)
        try:
            for held in next(iter(self._batches("screen", 0))):
                sequence = self.bench.fork(held.sequence, flow)
                try:
                    for token in (held.item.prompt[-1], *held.item.answer[:-1]):
                        self.bench.decode([sequence], [token])
                        for layer in range(self.loaded.config.layers):
                            for head in range(self.loaded.config.attention.kv_heads):
                                chosen.update(
                                    np.asarray(self.bench.page_list(sequence, layer, head), dtype=np.int32).tobytes()
                                )
                                chosen.update(b"|")
                finally:
                    self.bench.release(sequence)
        finally:
            self.bench.record_pages(False)
            self.bench.unload_flow(flow)
        return f"{program.config.page_size}:{chosen.hexdigest()[:24]}"

    def _batches(self, part: str, seed: int) -> Iterator[list[_Held]]:
        if part == "confirm":
            items = self._make(self.workload.confirm_items, seed)
            for start in range(0, len(items), BATCH):
                held = []
                try:
                    held = [self._hold(item, once=True) for item in items[start : start + BATCH]]
                    yield held
                finally:
                    for one in held:
                        self.bench.release(one.sequence)
            return
        if part not in self._items:
            count, seed = (
                (self.workload.screen_items, 2 * self.workload.seed)
                if part == "screen"
                else (self.workload.gate_items, 2 * self.workload.seed + 1)
            )
            held = []
            for index, item in enumerate(self._make(count, seed)):
                self.progress(f"items of {part}", index, count)
                held.append(self._hold(item))
            self.progress(f"items of {part}", count, count)
            self._items[part] = held
        held = self._items[part]
        # Depths alternate, so that every batch sees all of them.
        order = [
            index
            for first in range(-(-len(held) // BATCH))
            for index in range(first, len(held), -(-len(held) // BATCH))
        ]
        for start in range(0, len(order), BATCH):
            yield [held[index] for index in order[start : start + BATCH]]

    def _make(self, count: int, seed: int) -> list[needle.NeedleItem]:
        return needle.make_items(
            natural_text(),
            lambda text: self.loaded.tokenizer.encode(text, control=True),
            self.loaded.chat,
            length=self.workload.length,
            count=count,
            seed=seed,
            drawn=True,
        )

    def _hold(self, item: needle.NeedleItem, *, once: bool = False) -> _Held:
        """once: nobody asks for this item again, so no snapshot of it is kept."""
        tokens = list(item.prompt[:-1])
        sequence = (
            self.bench.prefill(tokens)
            if once
            else self.snapshots.sequence(self.bench, tokens, model_sha256=self.loaded.sha256, numerics=self.numerics)
        )
        full = self._logits([(sequence, item)], -1)[0][0]
        require_finite(full, "discover", full=True)
        return _Held(item, sequence, full)

    def _decode(self, batch: list[_Held], flow: int) -> list[Outcome]:
        found = self._logits([(held.sequence, held.item) for held in batch], flow)
        for logits, _ in found:
            require_finite(logits, "discover", full=False)
        return [score(held.full, logits, held.item.answer, tokens) for held, (logits, tokens) in zip(batch, found)]

    def _logits(self, batch: list[tuple[int, needle.NeedleItem]], flow: int) -> list[tuple[np.ndarray, float]]:
        """Of each, logits [answer tokens, vocabulary], teacher-forced, and tokens a row attended, a mean of the whole batch."""
        sequences = [self.bench.fork(sequence, flow) for sequence, _ in batch]
        fed = [(item.prompt[-1], *item.answer[:-1]) for _, item in batch]
        rows: list[list[np.ndarray]] = [[] for _ in batch]
        try:
            self.bench.reset_statistics()
            for step in range(max(map(len, fed))):
                going = [index for index, tokens in enumerate(fed) if step < len(tokens)]
                logits = self.bench.decode([sequences[index] for index in going], [fed[index][step] for index in going])
                for row, index in enumerate(going):
                    rows[index].append(np.array(logits[row], dtype=np.float32))
            counted = self.bench.statistics
            return [(np.stack(one), counted.attended_tokens / counted.rows) for one in rows]
        finally:
            for sequence in sequences:
                self.bench.release(sequence)

    def read(self, block: Block) -> honesty.Reading:
        """What a timed block attended."""
        attention = self.loaded.config.attention
        rows = self.workload.batch * self.loaded.config.layers * attention.kv_heads
        return honesty.Reading(block.attended_tokens / rows, self.workload.context + (self.workload.steps + 3) / 2)

    # Speed

    def speed(self, program: _core.Program, rounds: int, seed: int = 0) -> Iterator[tuple[Block, Block, Block, Block]]:
        """Rounds of full, flow, flow, full. Every block is checked: finite logits, the pages that the engine counted, equal bits twice."""
        flow = self.bench.load_flow(program)
        try:
            base = self._contexts()
            allowed = allowed_tokens(program, self.loaded.config, self.workload.context, self.workload.steps)
            for number in range(rounds):
                quartet = tuple(
                    time_block(self.bench, self.loaded.model, base, which, self.workload.steps, seed + number)
                    for which in (-1, flow, flow, -1)
                )
                if quartet[1].digest != quartet[2].digest or quartet[0].digest != quartet[3].digest:
                    raise UserError(
                        "discover",
                        "the same block gives the same bits twice",
                        f"{program.name} does not",
                        "report this as a defect",
                    )
                check_pages(self.loaded.model, program.name, quartet[1], self.workload.batch, allowed)
                yield quartet
        finally:
            self.bench.unload_flow(flow)

    def _contexts(self) -> list[int]:
        while len(self._filled) < self.workload.batch:
            self._filled.append(self.bench.fill(self.workload.context, len(self._filled) + 1))
        return self._filled
