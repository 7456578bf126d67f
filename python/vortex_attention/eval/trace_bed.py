"""Flows on traces instead of a model: a workbench whose model replays what was recorded, so every flow, its sets, its groups and its rest
run as they do in the engine, and nothing of the model is loaded when the traces are there. Traces are of full attention in bf16."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import _core, flows
from ..engine.pages import physical_page_size
from ..errors import MachineError, UserError
from ..fetch import cache_folder
from ..measure.provenance import numerics
from ..models import ChatTemplate, load_model, open_source
from .arms import Arms
from .made_items import MadeItems
from .runner import Progress
from .suite import Item
from .suites.context import Context
from .traces import Trace, Traces, pack, record, recorded_rows

RECORDING_PAGE, BATCH = 16, 8


class TraceArms(Arms):
    """Arms whose tokens are rows of the recording and whose logits are the outputs of attention."""

    geometry: _core.AttentionGeometry
    traces: dict[tuple[int, ...], Trace]
    rows_of: dict[tuple[int, ...], int]  # of an item's first position

    def trace(self, item: Item) -> Trace:
        return self.traces[tuple(item.prompt[:-1])]

    def row(self, item: Item) -> int:
        return self.rows_of[tuple(item.prompt[:-1])]

    def outputs(self, logits: np.ndarray) -> np.ndarray:
        """[n, layers, heads · value_dim], of what `decode` gave."""
        layers = self.geometry.layers
        width = self.geometry.kv_heads * self.geometry.group * self.geometry.value_dim
        return logits[:, : layers * width].reshape(len(logits), layers, width)


class TraceBed:
    """The members of Bed. An item of a suite on traces has the tokens of its text as prompt[:-1], the positions that are asked as `data`."""

    device_facts = None

    def __init__(
        self,
        model: str,
        loaded_flows: dict[str, flows.LoadedFlow],
        *,
        natural,
        threads: int = 0,
        kv_dtype: str = "bf16",
        device: str = "cpu",
        load_format: str = "auto",
        gigabytes: float = 4.0,
        progress: Progress = lambda *_: None,
    ):
        if kv_dtype != "bf16" or device != "cpu":
            raise UserError(
                "trace", "the CPU and K and V in bf16", f"{device}, {kv_dtype}", "leave --device and --kv-dtype out"
            )
        self.flows, self.progress = loaded_flows, progress
        self.threads = _core.thread_count(threads)
        self.source = open_source(model, load_format)
        self.name, self.sha256, self.geometry = self.source.name, self.source.sha256(), self.source.config.attention
        self.page_size = physical_page_size([flow.config.page_size for flow in loaded_flows.values()] or [16])
        self.kept = Traces(cache_folder("attention-traces"), int(gigabytes * 1e9), lambda line: progress(line, 1, 1))
        tokenizer = self.source.tokenizer()
        tokenizer.cover(self.source.config.vocabulary)
        template = self.source.chat_template()
        frame = None if template is None else ChatTemplate(template, tokenizer, self.source.where)

        def chat(user: str, start: str = "") -> str:
            return frame.render([{"role": "user", "content": user}]) + start

        self.context = Context(
            encode=lambda text: list(tokenizer.encode(text, control=True)),
            decode=tokenizer.decode,
            chat=chat if frame else None,
            stop=frozenset(tokenizer.stop_tokens),
            limit=self.source.config.context,
            natural=natural,
            vocabulary=self.source.config.vocabulary,
            made=MadeItems(cache_folder("items"), self.sha256, lambda line: progress(line, 1, 1)),
        )
        self.traces: dict[tuple[int, ...], Trace] = {}
        self.recorded = 0  # traces that were not there

    @property
    def numerics(self) -> str:
        return numerics(kv_dtype="bf16", page_size=self.page_size)

    @property
    def programs(self) -> dict:
        return {name: flow.program for name, flow in self.flows.items()}

    def record(self, items: Sequence[Item]) -> list[Trace]:
        """The items' traces: kept ones, and those that are made now, for which the model is loaded."""
        tokens = [tuple(item.prompt[:-1]) for item in items]
        self._need_memory(items)
        keys = [
            Traces.key(self.sha256, numerics(kv_dtype="bf16", page_size=RECORDING_PAGE), text, item.data)
            for text, item in zip(tokens, items)
        ]
        found = [self.kept.find(key) for key in keys]
        missing = [index for index, trace in enumerate(found) if trace is None]
        if missing:
            self.progress("recording traces", 0, len(missing))
            loaded = load_model(self.source, threads=self.threads)
            pages = max(-(-len(tokens[index]) // RECORDING_PAGE) for index in missing) + 4
            bench = _core.Workbench(
                loaded.model, page_size=RECORDING_PAGE, pages=pages, max_batch=1, threads=self.threads, kv_dtype="bf16"
            )
            for done, index in enumerate(missing):
                found[index] = record(bench, loaded.model, tokens[index], items[index].data)
                self.kept.keep(keys[index], found[index])
                self.progress("recording traces", done + 1, len(missing))
            self.recorded += len(missing)
        self.traces = dict(zip(tokens, found))
        return found

    def _need_memory(self, items: Sequence[Item]) -> None:
        geometry = self.geometry
        of_token = geometry.layers * geometry.kv_heads * (geometry.head_dim + geometry.value_dim) * 2
        of_position = geometry.layers * geometry.kv_heads * geometry.group * geometry.head_dim * 4
        longest = max(len(item.prompt) for item in items)
        needed = (
            sum(len(item.prompt) * of_token + len(item.data) * of_position for item in items) + 4 * longest * of_token
        )
        if needed > _core.available_memory():
            raise MachineError(
                "trace",
                f"{needed / 1e9:.1f} GB of memory for {len(items)} traces",
                f"{_core.available_memory() / 1e9:.1f} GB can be had here",
                "lower --items, --length or --positions",
            )

    def together(self, items: Sequence[Item]) -> int:
        return 1

    def prepare(
        self,
        items: Sequence[Item],
        *,
        branches: int = 1,
        batch: int | None = None,
        together: int = 1,
        lanes: int | None = None,
    ) -> Arms:
        """together: texts whose keys and values are there at once."""
        traces, geometry, page = self.record(items), self.geometry, self.page_size
        first = np.cumsum([0, *(len(trace.positions) for trace in traces)])
        rows_of = {tuple(item.prompt[:-1]): int(row) for item, row in zip(items, first)}
        self.model = _core.replay_model(self.source.config, *recorded_rows(traces))
        longest = max(trace.tokens for trace in traces)
        self.bench = _core.Workbench(
            self.model,
            page_size=page,
            pages=together * (-(-longest // page) + 1) + 4 * BATCH + 8,
            max_batch=BATCH,
            threads=self.threads,
            kv_dtype="bf16",
        )
        ids = {name: self.bench.load_flow(program) for name, program in self.programs.items()}
        configs = {name: program.config for name, program in self.programs.items()}
        arms = TraceArms(self.bench, ids, geometry.layers * geometry.kv_heads, geometry.layers, configs)
        arms.traces, arms.rows_of, arms.geometry = self.traces, rows_of, geometry
        return arms

    def snapshots(self, gigabytes: float) -> Traces:
        return self.kept

    def prefill(self, kept: Traces):
        """What run_suite calls for an item's base: its keys and values, put where a prefill would."""

        def restore(tokens: Sequence[int]) -> int:
            trace = self.traces[tuple(tokens)]
            return self.bench.restore(pack(trace, self.geometry, self.page_size), trace.tokens)

        return restore
