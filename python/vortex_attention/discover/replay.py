"""A laboratory of traces: the attention of recorded texts replayed through every flow, and speed by the bytes that were read. No model runs.

Accuracy is a screen's: minus the output error of attention, ‖o − full‖ / ‖full‖, a mean over layers and steps; 0 is full attention, −1 is nothing.
Speed is that of bytes: a step's weights, what is scored and selected by the price, what the engine counted as attended. Both are proxies, the
same for every flow and every run, so searches can be compared on them at a hundredth of the cost. Texts are needles: the queries are those of
the question's last token and of the answer's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from .. import _core
from ..bench.decode import Block
from ..engine.pages import physical_page_size
from ..eval import needle
from ..eval.score import Outcome
from ..eval.trace_bed import RECORDING_PAGE
from ..eval.traces import Trace, Traces, pack, record, recorded_rows
from ..fetch import cache_folder
from ..measure.provenance import numerics
from ..models import load_model, open_source
from ..models.chat import ChatTemplate
from ..models.data import natural_text
from ..models.memory import memory_of
from . import honesty
from .laboratory import ItemResult, Progress, Workload, price_facts
from .mutate import Geometry

BYTES_A_SECOND = 20e9  # of the machine that is priced; ratios do not depend on it
CACHE_BYTES = int(8e9)
BATCH = 8  # texts that are replayed together


class ReplayLaboratory:
    """The same verbs as Laboratory. Traces that the cache does not hold are recorded first, for which the model is loaded."""

    timing = False  # seconds are those of bytes: it need not have the machine alone

    def __init__(self, workload: Workload, progress: Progress = lambda what, done, of: None):
        self.workload, self.progress = workload, progress
        self.source = open_source(workload.model)
        config = self.source.config
        attention = config.attention
        self.geometry = Geometry(attention.head_dim, attention.group, attention.value_dim, config.layers)
        self.model = (self.source.name, self.source.sha256())
        self.numerics = f"replay {numerics(kv_dtype='bf16', page_size=RECORDING_PAGE)}"
        self.weight_bytes = memory_of(self.source, batch=1).weights
        self.kept = Traces(cache_folder("attention-traces"), CACHE_BYTES, lambda line: progress(line, 1, 1))
        self._parts: dict[tuple[str, int], _Part] = {}
        self._read: dict[str, float] = {}

    def price(self, program: _core.Program) -> dict:
        attention, config, workload = self.source.config.attention, self.source.config, self.workload
        plan = _core.compile_flow(
            program, head_dim=attention.head_dim, group=attention.group, value_dim=attention.value_dim
        )
        price = _core.price(plan, layers=config.layers, heads=config.heads, kv_heads=attention.kv_heads, head_dim=attention.head_dim,
                            context=workload.context, batch=workload.batch, weight_bytes=self.weight_bytes)  # fmt: skip
        return price_facts(price)

    def expect(self, programs) -> None:
        """Nothing is compiled for a device here."""

    def expect_confirmation(self, seed: int) -> None:
        """Questions are made when they are asked for."""

    def require_need(self, least: float) -> None:
        """Nothing to ask: outputs are compared with full attention's, not with answers."""

    def accuracy(self, program: _core.Program, part: str, seed: int = 0) -> Iterator[list[ItemResult]]:
        outcomes, tokens = self._part(part, seed).errors(program)
        if part == "screen":
            self._read[program.hash] = tokens
        of = float(self.workload.length)
        yield [
            ItemResult(name, Outcome(True, 0.0, 0.0, of), Outcome(error < 0.5, -error, error, tokens))
            for name, error in outcomes
        ]

    def behaviour(self, program: _core.Program) -> str:
        """Fingerprint of the outputs on the screen's texts: they are equal when the pages are."""
        return f"{program.config.page_size}:{self._part('screen', 0).fingerprint(program)}"

    def read(self, block: Block) -> honesty.Reading:
        return honesty.Reading(block.attended_tokens, float(self.workload.length))

    def speed(
        self, program: _core.Program, rounds: int, seed: int = 0, rival: _core.Program | None = None
    ) -> Iterator[tuple[Block, Block, Block, Block]]:
        """Seconds are those of bytes."""
        flow, ends = self._block(program), self._full(program) if rival is None else self._block(rival)
        for _ in range(rounds):
            yield ends, flow, flow, ends

    def _full(self, program: _core.Program) -> Block:
        price = self.price(program)
        size = price["weight_bytes"] + price["full_attention_bytes"]
        return Block(size / BYTES_A_SECOND, {}, size, float(self.workload.length), 0.0)

    def _block(self, program: _core.Program) -> Block:
        if program.hash not in self._read:
            self._read[program.hash] = self._part("screen", 0).errors(program)[1]
        price = self.price(program)
        read = honesty.Reading(self._read[program.hash], float(self.workload.length))
        size = price["weight_bytes"] + honesty.attention_bytes(price, read)
        return Block(size / BYTES_A_SECOND, {}, size, read.tokens, 0.0)

    def _part(self, part: str, seed: int) -> _Part:
        workload = self.workload
        count, seed = {
            "screen": (workload.screen_items, 2 * workload.seed),
            "gate": (workload.gate_items, 2 * workload.seed + 1),
            "confirm": (workload.confirm_items, 1_000_003 + seed),
        }[part]
        key = (part, seed)
        if key not in self._parts:
            if part == "confirm":  # kept for one seed at a time: all flows of a comparison use the same
                self._parts = {other: made for other, made in self._parts.items() if other[0] != "confirm"}
            self._parts[key] = _Part(self, self._items(count, seed))
        return self._parts[key]

    def _items(self, count: int, seed: int) -> list[tuple[str, Trace]]:
        tokenizer = self.source.tokenizer()
        tokenizer.cover(self.source.config.vocabulary)
        chat = ChatTemplate(self.source.chat_template(), tokenizer, self.source.where)
        items = needle.make_items(
            natural_text(),
            lambda text: list(tokenizer.encode(text, control=True)),
            lambda user, start="": chat.render([{"role": "user", "content": user}]) + start,
            length=self.workload.length,
            count=count,
            seed=seed,
        )
        texts = [[*item.prompt, *item.answer[:-1]] for item in items]
        asked = [list(range(len(item.prompt) - 1, len(text))) for item, text in zip(items, texts)]
        keys = [
            Traces.key(self.model[1], self.numerics.removeprefix("replay "), text, at) for text, at in zip(texts, asked)
        ]
        found = [self.kept.find(key) for key in keys]
        missing = [index for index, trace in enumerate(found) if trace is None]
        if missing:
            loaded = load_model(self.source, threads=self.workload.threads)
            bench = _core.Workbench(
                loaded.model,
                page_size=RECORDING_PAGE,
                pages=max(map(len, texts)) // RECORDING_PAGE + 4,
                max_batch=1,
                threads=self.workload.threads,
            )
            for done, index in enumerate(missing):
                self.progress("recording traces", done, len(missing))
                found[index] = record(bench, loaded.model, texts[index], asked[index])
                self.kept.keep(keys[index], found[index])
            self.progress("recording traces", len(missing), len(missing))
        return [(item.name, trace) for item, trace in zip(items, found)]


class _Part:
    """Texts on a workbench whose model replays them, BATCH at a time. Steps are made in order, so that state and shared sets are as in a decode."""

    def __init__(self, laboratory: ReplayLaboratory, traces: list[tuple[str, Trace]]):
        config, steps = laboratory.source.config, laboratory.workload.steps
        attention = config.attention
        self.shape = (config.layers, attention.kv_heads * attention.group * attention.value_dim)
        page = physical_page_size([RECORDING_PAGE])
        pages = sum(-(-trace.tokens // page) + 4 for _, trace in traces) + 4 * BATCH
        self.bench = _core.Workbench(
            _core.replay_model(config, *recorded_rows([trace for _, trace in traces])),
            page_size=page,
            pages=pages,
            max_batch=BATCH,
            threads=laboratory.workload.threads,
            kv_dtype="bf16",
        )
        self.names = [name for name, _ in traces]
        self.sequences, self.rows, first = [], [], 0
        for _, trace in traces:
            sequence = self.bench.restore(pack(trace, attention, page), trace.tokens)
            self.bench.truncate(sequence, int(trace.positions[0]))
            self.sequences.append(sequence)
            self.rows.append(range(first, first + min(steps, len(trace.positions))))
            first += len(trace.positions)
        self.full = self._outputs(-1)
        self._last: tuple[str, list[np.ndarray], float] = ("", [], 0.0)  # of the flow that was replayed last

    def errors(self, program: _core.Program) -> tuple[list[tuple[str, float]], float]:
        """Output error of each text, and tokens a row attended, a mean."""
        outputs, tokens = self._replayed(program)
        found = []
        for name, mine, full in zip(self.names, outputs, self.full):
            apart = np.linalg.norm(mine - full, axis=-1) / np.linalg.norm(full, axis=-1)
            found.append((name, float(np.minimum(np.nan_to_num(apart, nan=10.0), 10.0).mean())))
        return found, tokens

    def fingerprint(self, program: _core.Program) -> str:
        seen = hashlib.sha256()
        for output in self._replayed(program)[0]:
            seen.update(output.tobytes())
        return seen.hexdigest()[:24]

    def _replayed(self, program: _core.Program) -> tuple[list[np.ndarray], float]:
        if self._last[0] != program.hash:
            flow = self.bench.load_flow(program)
            try:
                self.bench.reset_statistics()
                outputs, counted = self._outputs(flow), self.bench.statistics
                self._last = (program.hash, outputs, counted.attended_tokens / counted.rows)
            finally:
                self.bench.unload_flow(flow)
        return self._last[1], self._last[2]

    def _outputs(self, flow: int) -> list[np.ndarray]:
        """Of each text, [steps, layers, heads · value_dim]."""
        found: list[np.ndarray] = []
        for start in range(0, len(self.sequences), BATCH):
            rows = self.rows[start : start + BATCH]
            forks = [self.bench.fork(sequence, flow) for sequence in self.sequences[start : start + BATCH]]
            made: list[list[np.ndarray]] = [[] for _ in forks]
            try:
                for step in range(max(map(len, rows))):
                    going = [index for index in range(len(forks)) if step < len(rows[index])]
                    outputs = self.bench.decode(
                        [forks[index] for index in going], [rows[index][step] for index in going]
                    )
                    for index, output in zip(going, outputs):
                        made[index].append(output[: self.shape[0] * self.shape[1]].reshape(self.shape))
            finally:
                for fork in forks:
                    self.bench.release(fork)
            found += [np.stack(one) for one in made]
        return found
