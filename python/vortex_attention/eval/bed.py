"""A model with its flows on a workbench that is large enough for a suite. Says what will be taken of memory before it is."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from .. import _core, flows
from ..engine.pages import physical_page_size
from ..errors import UserError
from ..fetch import cache_folder
from ..measure.provenance import device_facts, numerics, place_of
from ..models import load_model, memory_of, open_source
from .arms import FULL, Arms, plain
from .runner import Progress
from .snapshots import Snapshots
from .suite import Item

AHEAD = 16  # greedy steps that a device takes without the host; what lies behind an answer's end is lost
HELD_BYTES, MOST_TOGETHER = 16 << 30, 64  # KV of the items that a device decodes side by side
CONTROLS = ("oracle", "random_pages", "recent_only")


def load_flows(
    names: Sequence[str], overrides: dict[str, str], controls: Sequence[str] = CONTROLS
) -> dict[str, flows.LoadedFlow]:
    """By name, the controls that are not named last; several budgets of a flow are written NAME@BUDGET."""
    found: dict[str, flows.LoadedFlow] = {}
    named = {plain(name) for name in names}
    for text in [*names, *(control for control in controls if control not in named)]:
        flow = flows.load_at(text, **overrides)
        name = flow.name
        if name in found or name == FULL:
            raise UserError(
                "flows", "flows with different names, none called full", f"{name} a second time", "rename one"
            )
        found[name] = flow
    return found


def ahead_on(device: str) -> int:
    return 1 if device == "cpu" else AHEAD


class Bed:
    """Loaded model and flows; `prepare(items)` makes the workbench."""

    def __init__(
        self,
        model: str,
        loaded_flows: dict[str, flows.LoadedFlow],
        *,
        threads: int = 0,
        kv_dtype: str = "bf16",
        device: str = "cpu",
        load_format: str = "auto",
        progress: Progress = lambda *_: None,
    ):
        self.flows, self.kv_dtype, self.device, self.progress = loaded_flows, kv_dtype, device, progress
        self.threads = _core.thread_count(threads)
        progress("loading the model", 0, 1)
        self.source = open_source(model, load_format)
        self.loaded = load_model(self.source, threads=self.threads, device=device)
        self.page_size = physical_page_size([flow.config.page_size for flow in loaded_flows.values()] or [16])
        progress("loading the model", 1, 1)

    def with_flows(self, loaded_flows: dict[str, flows.LoadedFlow]) -> "Bed":
        """The same model with other flows, on a workbench of its own."""
        other = copy.copy(self)
        other.flows = loaded_flows
        other.page_size = physical_page_size([flow.config.page_size for flow in loaded_flows.values()] or [16])
        return other

    @property
    def name(self) -> str:
        return self.loaded.name

    @property
    def sha256(self) -> str:
        return self.loaded.sha256

    @property
    def device_facts(self) -> dict | None:
        """What the model runs on, for provenance; None: the CPU."""
        return device_facts(self.device)

    @property
    def numerics(self) -> str:
        return numerics(kv_dtype=self.kv_dtype, page_size=self.page_size, device=place_of(self.device))

    @property
    def programs(self) -> dict:
        return {name: flow.program for name, flow in self.flows.items()}

    def probe(self):
        """A workbench on which flows can be tried, with room for nothing else."""
        return _core.Workbench(
            self.loaded.model, page_size=self.page_size, pages=4, max_batch=1, max_context=4 * self.page_size
        )

    def prepare(
        self,
        items: Sequence[Item],
        *,
        branches: int = 1,
        batch: int | None = None,
        together: int = 1,
        lanes: int | None = None,
    ) -> Arms:
        """A workbench on which every item's arms fit, `branches` forks of each arm at once, `together` items at once. lanes: forks
        whose own tokens are held at once; as many as decode when None."""
        page, arms = self.page_size, len(self.flows) + 1
        batch = max(min(arms * branches, 64), together * branches) if batch is None else batch
        tokens = sorted((len(item.prompt) + item.steps + 1 for item in items), reverse=True)
        longest = tokens[0]
        own = max(-(-item.steps // page) + 3 for item in items)
        lanes = max(batch, lanes or 0)
        pages = sum(-(-count // page) for count in tokens[:together]) + lanes * own + arms * 2 + 8
        attention = self.source.config.attention
        shape = {"head_dim": attention.head_dim, "group": attention.group, "value_dim": attention.value_dim}
        one_row = {
            "layers": 1,
            "heads": attention.group,
            "kv_heads": 1,
            "head_dim": attention.head_dim,
            "context": 4096,
        }
        summaries = sum(
            _core.price(_core.compile_flow(program, **shape), **one_row).summary_bytes_per_page
            for program in self.programs.values()
        )
        memory = memory_of(
            self.source,
            batch=batch,
            pages=pages,
            page_size=page,
            summary_bytes=summaries,
            kv_dtype=self.kv_dtype,
        )
        if self.device == "cpu":
            memory.require("lower --length, measure fewer flows at once, or use a smaller model")
        self.progress(f"workbench: {memory}", 1, 1)
        # A device holds what it works in for as long a sequence as this; the CPU does not care.
        place = {} if self.device == "cpu" else {"max_context": longest + page}
        self.bench = _core.Workbench(
            self.loaded.model,
            page_size=page,
            pages=pages,
            threads=self.threads,
            max_batch=batch,
            kv_dtype=self.kv_dtype,
            chunk_tokens=self.loaded.chunk_tokens,
            **place,
        )
        ids = {name: self.bench.load_flow(program) for name, program in self.programs.items()}
        configs = {name: program.config for name, program in self.programs.items()}
        layers = self.source.config.layers
        return Arms(self.bench, ids, layers * attention.kv_heads, layers, configs, ahead_on(self.device))

    def together(self, items: Sequence[Item]) -> int:
        """Items that are worth holding at once. The CPU decodes as fast one by one."""
        if self.device == "cpu":
            return 1
        attention = self.source.config.attention
        channels = attention.head_dim + (0 if attention.values_in_keys else attention.value_dim)
        of_token = 2 * self.source.config.layers * attention.kv_heads * channels
        longest = max(len(item.prompt) + item.steps for item in items)
        return max(1, min(MOST_TOGETHER, HELD_BYTES // (longest * of_token), len(items)))

    def snapshots(self, gigabytes: float) -> Snapshots:
        return Snapshots(cache_folder("snapshots"), int(gigabytes * 1e9), lambda line: self.progress(line, 1, 1))

    def prefill(self, snapshots: Snapshots):
        """What run_suite calls to fill an item's base."""
        return lambda tokens: snapshots.sequence(self.bench, tokens, model_sha256=self.sha256, numerics=self.numerics)
