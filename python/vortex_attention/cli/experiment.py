"""The main job behind `vortex run`, `vortex bench` and `vortex eval`: load a model, deploy flows, measure them beside full
attention, collect one JSON-ready result. Knows how to measure, not how to print."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import Callable, Sequence

from .. import _core, flows
from ..bench import decode as bench_decode
from ..bench import kernels as bench_kernels
from ..engine.pages import physical_page_size
from ..errors import UserError
from ..eval import accuracy, needle
from ..eval.arms import plain
from ..ledger import Block, Ledger
from ..ledger import Outcome as Recorded
from ..measure.provenance import device_facts, numerics, place_of, provenance
from ..measure.rounds import pooled_deviation, recorded_deviation, rounds_for, said_before
from ..models import Memory, load_model, memory_of, open_source
from ..models.data import natural_text
from .cards import cards
from ..models.geometry import of_source

MOST_PERIOD = 1024
PILOT = 4  # rounds of full attention beside itself before a wished resolution is planned
CONTROLS = ("random_pages", "recent_only", "oracle")
DEFAULT_FLOWS = ("centroid", "quest", "mean_deviation", "sub_centroid", "slow_means", "random_pages", "recent_only")


@dataclass
class Settings:
    """What is measured. Lengths and contexts in tokens; `overrides` are flow settings by name ("budget" → "32")."""

    model: str = "smollm2"
    load_format: str = "auto"
    flows: Sequence[str] = DEFAULT_FLOWS
    overrides: dict[str, str] = field(default_factory=dict)
    items: int = 8
    length: int = 2048
    seed: int = 1
    batch: int = 8
    contexts: Sequence[int] = (2048, 7500)
    rounds: int = 3
    steps: int = 4
    threads: int = 0
    kv_dtype: str = "bf16"
    device: str = "cpu"
    incumbent: str = ""  # a flow beside which each other one is timed as well
    deterministic: bool = False  # steps of one size, on a device
    profile: bool = False  # the kernels of a step too, on a device
    resolution: float = 0.0  # of the speed ratios, a share: as many rounds as it takes; 0: `rounds`


Progress = Callable[[str, int, int], None]  # (what, done, of)


class Experiment:
    """One model with its flows on a workbench sized for the settings. Use as a context manager is not needed: memory goes
    with the object."""

    def __init__(self, settings: Settings, progress: Progress, ledger: Ledger | None = None):
        self.settings, self.progress, self.ledger = settings, progress, ledger
        self.threads = _core.thread_count(settings.threads)
        self.bandwidths: dict[int, float] = {}
        if settings.device == "cpu" and settings.profile:
            raise UserError("--profile", "a device, whose steps are kernels", "--device cpu", "say --device cuda; on the cpu the table shows a step's parts")  # fmt: skip
        self.source = open_source(settings.model, settings.load_format)
        self.flows: dict[str, flows.LoadedFlow] = {}
        self.incumbent = ""
        for name in [*settings.flows, *([settings.incumbent] if settings.incumbent else [])]:
            flow = flows.load_at(name, **settings.overrides)
            if name == settings.incumbent:
                self.incumbent = flow.name
                if flow.name in self.flows:
                    continue
            if flow.name in self.flows or flow.name == accuracy.FULL:
                raise UserError(
                    "flows", "flows with different names, none called full", f"{flow.name} a second time", "rename one"
                )
            self.flows[flow.name] = flow
        # Blocks of measured steps hold whole periods of every flow that keeps its sets for some steps.
        period = math.lcm(*(flow.config.refresh_every for flow in self.flows.values()))
        if period > MOST_PERIOD:
            raise UserError(
                "flows",
                f"refresh_every whose least common multiple is at most {MOST_PERIOD}, the measured steps of a block",
                str(period),
                "measure these flows one by one",
            )
        self.steps = -(-settings.steps // period) * period
        self._check_lengths()
        self.page_size = physical_page_size(flow.config.page_size for flow in self.flows.values())
        self.memory = self._memory_needed()
        if settings.device == "cpu":  # on a device the engine says itself what does not fit
            self.memory.require(
                "lower --batch or --context, measure fewer flows at once, or use a smaller model or format"
            )
        progress(f"loading: {self.memory}", 0, 1)
        self.loaded = load_model(self.source, threads=self.threads, device=settings.device)
        self.workbench = _core.Workbench(
            self.loaded.model,
            page_size=self.page_size,
            pages=self._pages_needed(),
            threads=self.threads,
            max_batch=max(1, settings.batch),
            max_context=self._max_context(),
            chunk_tokens=self.loaded.chunk_tokens,
            kv_dtype=settings.kv_dtype,
            deterministic=settings.deterministic,
        )
        self.workbench.record_pages(settings.items > 0)
        self.flow_ids = {name: self.workbench.load_flow(flow.program) for name, flow in self.flows.items()}
        progress(f"loading: {self.memory}", 1, 1)

    def _memory_needed(self) -> Memory:
        settings, attention = self.settings, self.source.config.attention
        shape = {"head_dim": attention.head_dim, "group": attention.group, "value_dim": attention.value_dim}
        plans = [_core.compile_flow(flow.program, **shape) for flow in self.flows.values()]
        one_row = {
            "layers": 1,
            "heads": attention.group,
            "kv_heads": 1,
            "head_dim": attention.head_dim,
            "context": 4096,
        }
        summaries = sum(_core.price(plan, **one_row).summary_bytes_per_page for plan in plans)
        chunk = {} if settings.items else {"chunk": 0}  # without accuracy no prompt runs beside the batch
        return memory_of(
            self.source,
            batch=settings.batch,
            **chunk,
            pages=self._pages_needed(),
            page_size=self.page_size,
            summary_bytes=summaries,
            kv_dtype=settings.kv_dtype,
        )

    def _longest(self) -> int:
        """Tokens of the longest sequence that is measured."""
        settings = self.settings
        return max([settings.length if settings.items else 0, *(c + self.steps + 1 for c in settings.contexts)])

    @property
    def device_facts(self) -> dict | None:
        """What the model runs on, for records; None: the CPU."""
        return device_facts(self.settings.device)

    def _max_context(self) -> int:
        """A device holds what it works in for as long a sequence as this; the CPU does not care."""
        return 0 if self.settings.device == "cpu" else min(self.source.config.context, self._longest() + 32)

    def _check_lengths(self) -> None:
        context = self.source.config.context
        longest = self._longest()
        if longest > context:
            raise UserError(
                "lengths",
                f"at most {context} tokens, the context of {self.source.name}",
                f"{longest} tokens",
                "lower --length or --context",
            )

    def _pages_needed(self) -> int:
        settings, page = self.settings, self.page_size
        speed = max(
            [settings.batch * (-(-context // page) - (-(self.steps + 1) // page) + 3) for context in settings.contexts],
            default=0,
        )
        accuracy_pages = -(-(settings.length + 32) // page) + 8 if settings.items else 0
        return max(speed, accuracy_pages) + 8

    def measure_accuracy(self) -> dict:
        settings, loaded = self.settings, self.loaded
        items = needle.make_items(
            natural_text(),
            lambda text: loaded.tokenizer.encode(text, control=True),
            loaded.chat,
            length=settings.length,
            count=settings.items,
            seed=settings.seed,
        )
        picture: dict = {}
        shown = next((name for name in self.flows if plain(name) not in CONTROLS), None)

        def inspect(arm: str, item: needle.NeedleItem, sequence: int) -> None:
            if arm == shown and not picture:
                picture.update(self._selection_picture(arm, item, sequence))

        self.progress("accuracy", 0, len(items))
        fixed = {"length": settings.length, "count": settings.items, "seed": settings.seed, "generator": needle.VERSION}
        with self._recorded("accuracy", "needle", fixed) as run:
            arms = self._recorded_arms(run)

            def measured(item: needle.NeedleItem, by_arm: dict) -> None:
                if run:
                    run.add_outcomes(
                        [(arms[name], item.name, _recorded_outcome(outcome), None) for name, outcome in by_arm.items()]
                    )

            outcomes = accuracy.run_items(
                self.workbench,
                items,
                self.flow_ids,
                lambda index: self.progress("accuracy", index + 1, len(items)),
                inspect,
                measured,
            )
        return {
            "accuracy": {
                "length": settings.length,
                "arms": accuracy.summarise(outcomes),
                "items": [{"name": item.name, "depth": item.depth, "tokens": len(item.prompt)} for item in items],
            },
            "selection": picture,
        }

    def _selection_picture(self, arm: str, item: needle.NeedleItem, sequence: int) -> dict:
        """Share of KV heads that read each page at the answer's last step, [layers][pages]."""
        bench, config, page_size = self.workbench, self.loaded.config, self.flows[arm].config.page_size
        pages = -(-bench.length(sequence) // page_size)
        share = [[0.0] * pages for _ in range(config.layers)]
        for layer in range(config.layers):
            for head in range(config.attention.kv_heads):
                for page in bench.page_list(sequence, layer, head):
                    share[layer][page] += 1 / config.attention.kv_heads
        return {"flow": arm, "share": share, "needle_page": item.needle_token // page_size}

    def _read_bandwidth(self, size: int) -> float:
        """Bytes a second at which all threads stream a buffer of that size, measured once for sizes within a fifth."""
        if self.settings.device != "cpu":
            size = min(size, 4 << 30)  # far beyond a device's caches; what is more reads no faster
        step = max(round(math.log(max(size, 64 << 20), 1.2)), 1)
        if step not in self.bandwidths:
            self.bandwidths[step] = _core.measured_read_bandwidth(
                self.threads, bytes=int(1.2**step) + (1 << 20), device=self.settings.device
            )
        return self.bandwidths[step]

    def measure_speed(self) -> list[dict]:
        settings = self.settings
        cases = []
        rounds, done, total = settings.rounds, 0, 0

        def expect(wanted: int) -> None:
            nonlocal rounds, total
            rounds = wanted
            total = (
                len(settings.contexts) * bench_decode.blocks(rounds, len(self.flows), bool(self.incumbent)) + pilot * 4
            )

        def advance() -> None:
            nonlocal done
            done += 1
            self.progress("speed", done, total)

        def planned(log_ratios: list[float]) -> int:
            """The rounds that the wished resolution takes, by how far rounds of full attention beside itself stray."""
            deviation = pooled_deviation([log_ratios])
            expect(rounds_for(settings.resolution, deviation))
            self._say(said_before(rounds, deviation, settings.resolution, "full attention beside itself, now"))
            return rounds

        pilot = PILOT if settings.resolution else 0
        expect(settings.rounds)
        if not pilot and self.flows:
            load = f"{settings.batch}x{settings.contexts[0]}"
            device = provenance(self.device_facts)["device"]
            known = recorded_deviation(self.ledger, device, load) if self.ledger is not None else None
            self._say(said_before(rounds, known, 0.01, "the last run of this load on this machine"))

        self.progress("speed", 0, total)
        fixed = {
            "batch": settings.batch,
            "contexts": list(settings.contexts),
            "rounds": settings.rounds,
            "resolution": settings.resolution,
            "steps": self.steps,
            "threads": self.threads,
        }
        with self._recorded("speed", "decode", fixed) as run:
            recorded = self._recorded_arms(run)
            self.run_id = run.id if run else ""
            for context in settings.contexts:

                def measured(name: str, baseline: str, number: int, quartet: tuple, context: int = context) -> None:
                    if run:
                        load = f"{settings.batch}x{context}"
                        run.add_blocks(_recorded_blocks(recorded, load, name, baseline, number, quartet))

                arms = bench_decode.bench_decode(
                    self.workbench,
                    self.loaded.model,
                    {name: (flow, self._allowed_tokens(name, context)) for name, flow in self.flow_ids.items()},
                    batch=settings.batch,
                    context=context,
                    rounds=rounds,
                    steps=self.steps,
                    progress=advance,
                    filled=lambda done, context=context: self.progress(f"filling {context}", done, settings.batch),
                    measured=measured,
                    incumbent=self.incumbent,
                    pilot=pilot,
                    planned=planned if pilot else None,
                )
                kernels = self._kernels(context) if settings.profile else None
                pilot = 0  # the first context's noise plans them all
                cases.append(
                    {
                        "batch": settings.batch,
                        "context": context,
                        "incumbent": self.incumbent or None,
                        "rounds": rounds,
                        **({"kernels": kernels} if kernels else {}),
                        "arms": [bench_decode.summarise(arm, settings.batch, self._read_bandwidth) for arm in arms],
                    }
                )
            if run:
                loads = [(settings.batch, context) for context in settings.contexts]
                kept = cards(self.flows, of_source(self.source, settings.kv_dtype), loads)
                run.summary = {"cases": cases, "threads": self.threads, "flows": kept}
        return cases

    def _kernels(self, context: int) -> list[dict]:
        batch = self.settings.batch
        self.progress(f"profiling {context}", 0, 1)
        found = bench_kernels.profile(self.workbench, self.loaded.model, self.flow_ids, batch=batch, context=context,
                                      bandwidth=self._read_bandwidth(4 << 30))  # fmt: skip
        self.progress(f"profiling {context}", 1, 1)
        return found

    @property
    def numerics(self) -> str:
        return numerics(kv_dtype=self.settings.kv_dtype, page_size=self.page_size, device=self._place)

    @property
    def _place(self) -> str:
        """What fixes the bits there: on a device the size of a step does."""
        place = place_of(self.settings.device)
        return f"{place} deterministic" if self.settings.deterministic and place != "cpu" else place

    def _say(self, line: str) -> None:
        self.progress(line, 1, 1)

    def _recorded(self, kind: str, suite: str, settings: dict):
        """A run of the ledger as a context, None when nothing is to be recorded."""
        if self.ledger is None:
            return contextlib.nullcontext()
        return self.ledger.run(
            kind,
            suite=suite,
            model=self.loaded.name,
            model_sha256=self.loaded.sha256,
            settings=settings,
            numerics=self.numerics,
            environment=provenance(self.device_facts),
        )

    def _recorded_arms(self, run) -> dict:
        if run is None:
            return {}
        arms = {name: run.arm(name, flow.program, control=plain(name) in CONTROLS) for name, flow in self.flows.items()}
        return {accuracy.FULL: run.arm(accuracy.FULL), **arms}

    def _allowed_tokens(self, name: str, context: int) -> float:
        return bench_decode.allowed_tokens(self.flows[name].program, self.loaded.config, context, self.steps)

    def run(self, *, with_accuracy: bool = True, with_speed: bool = True) -> dict:
        """The whole result. Keys are those that `report` reads; docs/report.md lists them."""
        result: dict = {
            "schema": 1,
            "provenance": provenance(self.device_facts),
            "threads": self.threads,
            "kv_dtype": self.settings.kv_dtype,
            "model": {"name": self.loaded.name, "sha256": self.loaded.sha256},
            "controls": [name for name in self.flows if plain(name) in CONTROLS],
            "flows": [self._card(name) for name in self.flows],
            "accuracy": None,
            "speed": [],
            "selection": None,
        }
        if with_accuracy and self.settings.items:
            result.update(self.measure_accuracy())
        if with_speed and self.settings.contexts:
            self.progress("reading memory", 0, 1)
            result["read_gigabytes_per_second"] = self._read_bandwidth(1 << 30) / 1e9
            self.progress("reading memory", 1, 1)
            result["speed"] = self.measure_speed()
        result["headline"] = headline(result)
        return result

    def _card(self, name: str) -> dict:
        flow = self.flows[name]
        return {"name": name, "doc": flow.doc, "source": flow.source, "hash": flow.hash, "config": str(flow.config)}


def _recorded_outcome(outcome) -> Recorded:
    scores = vars(outcome) | {}
    return Recorded(scores, {"attended_tokens": scores.pop("attended_tokens")})


def _recorded_blocks(arms: dict, load: str, name: str, baseline: str, number: int, quartet: tuple) -> list:
    """The baseline's two blocks stand under its own arm, with the flow that they were timed beside."""
    who = (baseline, name, name, baseline)
    return [
        (
            arms[arm],
            Block(load, number, position, block.seconds, name if arm == baseline else baseline, block.observed()),
        )
        for position, (arm, block) in enumerate(zip(who, quartet))
    ]


def headline(result: dict) -> str:
    """One true sentence: the fastest flow among those whose answers are as good as full attention's on these items."""
    if not result["accuracy"] or not result["speed"]:
        return "A partial run: accuracy and speed were not both measured."
    accuracy_arms = {arm["name"]: arm for arm in result["accuracy"]["arms"]}
    case = result["speed"][-1]
    full_exact = accuracy_arms[accuracy.FULL]["exact"]["center"]
    count = accuracy_arms[accuracy.FULL]["exact"]["count"]
    good = [
        arm
        for arm in case["arms"]
        if arm["name"] in accuracy_arms
        and arm["ratio"]
        and arm["name"] not in result["controls"]
        and accuracy_arms[arm["name"]]["exact"]["center"] >= full_exact - 1.0 / count - 1e-9
    ]
    if not good:
        return (
            f"No flow kept full attention's answers ({full_exact:.2f} exact) on these {count} items; "
            "raise the budget or write a better score."
        )
    best = max(good, key=lambda arm: arm["ratio"]["center"])
    exact = accuracy_arms[best["name"]]["exact"]["center"]
    return (
        f"{best['name']} decodes {best['ratio']['center']:.2f}× as fast as full attention ({case['batch']} × {case['context']} "
        f"tokens) and finds {round(exact * count)} of {count} needles; full attention finds {round(full_exact * count)}."
    )
