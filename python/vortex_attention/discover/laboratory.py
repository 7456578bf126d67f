"""Where proposals are measured: one model on a workbench, on the CPU or a device, items prefilled once (a study that goes on takes them from
snapshots), contexts filled once, both kept for every flow.

Accuracy and speed of a flow come from the same loaded program on the same engine. Items of `screen`, `gate` and every `confirm` are
different items in places of their own; a confirm's are made when they are asked for and gone after it. Refuses to measure where a flow
that looks at nothing does well.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields

import numpy as np

from .. import _core
from ..bench.decode import Block, allowed_tokens, check_pages, time_block
from ..engine.pages import physical_page_size
from ..errors import InternalError, UserError
from ..eval.score import Outcome, Reference
from ..eval.snapshots import Snapshots
from ..fetch import cache_folder
from ..flows import ready
from ..measure.finite import require_finite
from ..measure.provenance import device_facts, numerics, place_of, provenance
from ..models import load_model, open_source
from ..models.data import natural_text
from . import honesty, items
from .mutate import Geometry

BATCH = 8  # items that are decoded together
CONTROL = "recent_only"
SNAPSHOTS = 8.0  # gigabytes, on the CPU; a device prefills an item in less time than a disk reads it
DEVICE_STEPS = 12  # of a block on a device, where a step takes a few milliseconds
MANY_CORES = 8  # of which some make questions in processes of their own
CPU_HELD, DEVICE_HELD = 2 << 30, 48 << 30  # bytes of KV of a cohort's items that stay in memory
MOST_TOGETHER = 64  # items that a device lets answer freely side by side
BUILDERS = 8  # flows whose kernels are compiled at once, beside the measuring
LATER = (
    "device",
    "suite",
    "tasks",
    "confirm_tasks",
    "confirm_lengths",
)  # fields that a study without them has at their default


def price_facts(price: _core.Price) -> dict:
    """The part of a price that gates keep: bytes of a step of the batch, and the speed-up that they promise."""
    names = ("score_bytes", "select_bytes", "attend_bytes", "weight_bytes", "full_attention_bytes", "step_speedup",
             "summary_bytes_per_page", "kv_bytes_per_page")  # fmt: skip
    return {name: getattr(price, name) for name in names}


@dataclass(frozen=True)
class Workload:
    """What every flow of a study is measured on. Lengths in tokens. suite, tasks: see items; confirm_tasks, confirm_lengths: of the
    confirmation, as the gates' when empty."""

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
    device: str = "cpu"
    suite: str = "needle"
    tasks: tuple[str, ...] = ()
    confirm_tasks: tuple[str, ...] = ()
    confirm_lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("tasks", "confirm_tasks", "confirm_lengths"):  # lists, from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def to_json(self) -> dict:
        usual = {field.name: field.default for field in fields(self)}
        kept = {name: value for name, value in asdict(self).items() if name not in LATER or value != usual[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def workload_of(
    evaluator: str, *, device: str, suite: str, tasks: str, confirm_tasks: str, confirm_lengths: str, **given
) -> Workload:
    """From the words of a command, which stand by commas. UserError for what the evaluator does not have."""
    _core.device_kind(device)
    if evaluator != "real" and (device != "cpu" or suite != "needle"):
        raise UserError(
            "discover",
            f"--device cpu and --suite needle with the evaluator {evaluator}, which runs no model on a device and has its own items",
            f"--device {device}, --suite {suite}",
            "leave both out, or take the evaluator real",
        )
    workload = Workload(
        **given,
        device=device,
        suite=suite,
        tasks=_words(tasks),
        confirm_tasks=_words(confirm_tasks),
        confirm_lengths=tuple(_lengths(confirm_lengths)),
        **({} if device == "cpu" else {"steps": DEVICE_STEPS}),
    )
    items.checked(workload)
    return workload


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _lengths(text: str) -> Iterator[int]:
    for word in _words(text):
        if not word.isdecimal() or not 64 <= int(word) <= 2**24:
            raise UserError(
                "--confirm-lengths",
                "numbers of tokens from 64 to 16777216, by commas",
                repr(word),
                "for example 8192,16384",
            )
        yield int(word)


def _kept(workload: Workload, room: int, page: int, attention, layers: int) -> tuple[int, int]:
    """How many of a cohort's items stay in memory, and pages for them and for those that do not."""
    page_bytes = 2 * page * layers * attention.kv_heads
    page_bytes *= attention.head_dim + (0 if attention.values_in_keys else attention.value_dim)
    limit = (CPU_HELD if workload.device == "cpu" else DEVICE_HELD) // page_bytes
    sizes = [
        -(-(length + room) // page) + 4 for length in items.each_length(workload, "confirm", workload.confirm_items)
    ]
    if sum(sizes) <= limit:
        return len(sizes), sum(sizes)
    kept = min(len(sizes), limit // max(sizes) // BATCH * BATCH)
    return kept, (kept + BATCH) * max(sizes)


@dataclass
class _Held:
    """An item with its prefilled sequence and full attention's logits."""

    item: items.Question
    sequence: int
    full: Reference
    said: float | None = None  # RULER's score of full attention's own answer


@dataclass(frozen=True)
class ItemResult:
    name: str
    full: Outcome
    flow: Outcome
    scores: tuple[float, float] | None = (
        None  # RULER's, of full attention's and the flow's own answers; of confirmations
    )


Progress = Callable[[str, int, int], None]


class Laboratory:
    """progress(what, done, of) is told of what takes long. snapshots: gigabytes of prefilled items that the cache may hold; None: SNAPSHOTS on
    the CPU, else 0. environment: what runs record of the machine; None: the CPU's. load_format: of the model, see open_source."""

    def __init__(
        self,
        workload: Workload,
        progress: Progress = lambda what, done, of: None,
        *,
        snapshots: float | None = None,
        load_format: str = "auto",
    ):
        self.workload, self.progress = workload, progress
        items.checked(workload)
        on_cpu = workload.device == "cpu"
        self.source = open_source(workload.model, load_format)
        room = items.room(workload)
        lengths = {part: max(items.lengths_of(workload, part)) + room for part in ("gate", "confirm")}
        longest = max(*lengths.values(), workload.context + workload.steps + 2)
        if longest > self.source.config.context:
            raise UserError(
                "discover",
                f"at most {self.source.config.context} tokens, the context of {self.source.name}",
                f"{longest} tokens",
                "lower --length or --context",
            )
        self.loaded = load_model(self.source, threads=workload.threads, device=workload.device)
        config = self.loaded.config
        attention = config.attention
        self.geometry = Geometry(
            attention.head_dim,
            attention.group,
            attention.value_dim,
            config.layers,
            workload.device,
            attention.kv_heads,
            attention.values_in_keys,
        )
        self.page_size = page = physical_page_size([16])
        held = (workload.screen_items + workload.gate_items) * (-(-lengths["gate"] // page) + 4)
        self._kept, pages = _kept(workload, room, page, attention, config.layers)
        held += pages
        filled = workload.batch * (-(-(workload.context + workload.steps + 2) // page) + 4)
        self._together = BATCH if on_cpu or self._kept < workload.confirm_items else min(MOST_TOGETHER, self._kept)
        forks = max(BATCH, self._together) * (-(-room // page) + 3)
        # A device holds what it works in for as long a sequence as this; the CPU does not care.
        place = {} if on_cpu else {"max_context": longest + page}
        self.bench = _core.Workbench(
            self.loaded.model,
            page_size=page,
            pages=held + filled + forks,
            threads=workload.threads,
            max_batch=max(BATCH, self._together, workload.batch),
            chunk_tokens=self.loaded.chunk_tokens,
            **place,
        )
        self.environment = None if on_cpu else provenance(device_facts(workload.device))
        self.numerics = numerics(kv_dtype="bf16", page_size=page, device=place_of(workload.device))
        limit = (SNAPSHOTS if on_cpu else 0.0) if snapshots is None else snapshots
        self.snapshots = Snapshots(cache_folder("snapshots"), int(limit * 1e9), lambda line: progress(line, 1, 1))
        self._builders = None if on_cpu else concurrent.futures.ThreadPoolExecutor(BUILDERS, "vortex-build")
        self._built: dict[str, concurrent.futures.Future] = {}  # by a flow's hash
        cores = _core.thread_count()
        self._scorers = concurrent.futures.ThreadPoolExecutor(workload.threads or min(8, cores), "vortex-score")
        alone = workload.suite != "ruler" or load_format != "auto" or cores < MANY_CORES
        self._makers = None if alone else items.Makers(workload.model, min(8, cores // 2))
        self._behaviour: dict[str, str] = {}  # of flows that the screen's items were answered through
        self._items: dict[str, list[_Held]] = {}
        self._confirming: tuple[int | None, list[_Held]] = (None, [])  # seed and items of the cohort that is measured
        self._filled: list[int] = []
        self._control: float | None = None  # nat that CONTROL gains on the screen's items

    def close(self) -> None:
        """Stops what was begun ahead."""
        if self._makers is not None:
            self._makers.close()

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

    def expect(self, programs: Iterable[_core.Program]) -> None:
        """Flows that will be measured: a device's kernels are compiled beside what is measured meanwhile."""
        for program in programs:
            if self._builders is not None and program.hash not in self._built:
                self._built[program.hash] = self._builders.submit(self.bench.build_ahead, program)

    def expect_confirmation(self, seed: int) -> None:
        """One that will come: its questions are made beside what is measured meanwhile, where there are cores."""
        if self._makers is not None and self._confirming[0] != seed:
            self._makers.expect(items.cells_of(self.workload, "confirm", self.workload.confirm_items, seed))

    def _load(self, program: _core.Program) -> int:
        if program.hash in self._built:  # whatever came of it: loading says it again
            concurrent.futures.wait([self._built[program.hash]])
        return self.bench.load_flow(program)

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
        flow = self._load(program)
        chosen = None
        if part == "screen":  # what it chooses there says which flows behave alike
            chosen = []
            self.bench.record_pages(True)
        try:
            for batch in self._batches(part, seed):
                found = []
                for start in range(0, len(batch), BATCH):
                    found += self._decode(batch[start : start + BATCH], flow, chosen)
                if chosen:
                    self._behaviour.setdefault(program.hash, self._fingerprint(program, chosen))
                    chosen = None
                    self.bench.record_pages(False)
                scores: list = [None] * len(batch)
                if part == "confirm" and self.workload.suite == "ruler":
                    if batch[0].said is None:
                        for held, score in zip(batch, self._scores(batch, -1)):
                            held.said = score
                    scores = list(zip((held.said for held in batch), self._scores(batch, flow)))
                yield [
                    ItemResult(held.item.name, held.full.full(float(len(held.item.prompt))), outcome, score)
                    for held, outcome, score in zip(batch, found, scores)
                ]
        finally:
            if chosen is not None:
                self.bench.record_pages(False)
            self.bench.unload_flow(flow)

    def behaviour(self, program: _core.Program) -> str:
        """Fingerprint of the pages chosen by every layer and head on the first of the screen's items, at every token of each answer."""
        if program.hash not in self._behaviour:
            next(iter(self.accuracy(program, "screen")))
        return self._behaviour[program.hash]

    @staticmethod
    def _fingerprint(program: _core.Program, chosen: list[list[bytes]]) -> str:
        state = hashlib.sha256()
        for lists in chosen:
            for pages in lists:
                state.update(pages)
                state.update(b"|")
        return f"{program.config.page_size}:{state.hexdigest()[:24]}"

    def _batches(self, part: str, seed: int) -> Iterator[list[_Held]]:
        if part == "confirm":
            yield from self._confirmation(seed)
            return
        if part not in self._items:
            count, seed = (
                (self.workload.screen_items, 2 * self.workload.seed)
                if part == "screen"
                else (self.workload.gate_items, 2 * self.workload.seed + 1)
            )
            made, held = self._make(part, count, seed), []
            for start in range(0, count, BATCH):
                self.progress(f"items of {part}", start, count)
                held += self._hold(made[start : start + BATCH])
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

    def _confirmation(self, seed: int) -> Iterator[list[_Held]]:
        """Batches of as many as may answer freely together. As many as there is room for are kept for the next flow of the cohort, the others go into
        snapshots where there are any."""
        known, kept = self._confirming
        if known != seed:
            for one in kept:
                self.bench.release(one.sequence)
            self._confirming = (seed, kept := [])
        count, made = self.workload.confirm_items, None
        for start in range(0, count, self._together):
            end = min(start + self._together, count)
            if end <= len(kept):
                yield kept[start:end]
                continue
            if made is None:
                made = self._make("confirm", count, seed)
            held: list[_Held] = []
            try:
                for first in range(start, end, BATCH):
                    self.progress("items of confirm", first, count)
                    held += self._hold(made[first : min(first + BATCH, end)], once=end <= self._kept)
                if end <= self._kept:
                    kept += held
                    held = []
                    yield kept[start:end]
                else:
                    yield held
            finally:
                for one in held:
                    self.bench.release(one.sequence)

    def _make(self, part: str, count: int, seed: int) -> list[items.Question]:
        return items.make(self.workload, part, count, seed, self.loaded, natural_text, self._makers)

    def _hold(self, made: list[items.Question], *, once: bool = False) -> list[_Held]:
        """At most BATCH items, which full attention answers together. once: nobody asks for them again, so no snapshots are kept."""
        sequences: list[int] = []
        try:
            for item in made:
                tokens = list(item.prompt[:-1])
                sequences.append(
                    self.bench.prefill(tokens)
                    if once
                    else self.snapshots.sequence(
                        self.bench, tokens, model_sha256=self.loaded.sha256, numerics=self.numerics
                    )
                )
            rows = self._forced(sequences, made)
        except BaseException:
            for sequence in sequences:
                self.bench.release(sequence)
            raise
        references = [self._scorers.submit(Reference, one, item.answer) for one, item in zip(rows, made)]
        return [_Held(*known) for known in zip(made, sequences, (reference.result() for reference in references))]

    def _forced(self, sequences: list[int], made: list[items.Question]) -> list[list[np.ndarray]]:
        """Full attention's logits at each token of each answer."""
        branches, rows = [], [[] for _ in made]
        fed = [(item.prompt[-1], *item.answer[:-1]) for item in made]
        try:
            for sequence in sequences:
                branches.append(self.bench.fork(sequence, -1))
            for step in range(max(map(len, fed))):
                going = [index for index, tokens in enumerate(fed) if step < len(tokens)]
                logits = self.bench.decode([branches[index] for index in going], [fed[index][step] for index in going])
                require_finite(logits, "discover", full=True)
                for row, index in enumerate(going):
                    rows[index].append(logits[row])
        finally:
            for branch in branches:
                self.bench.release(branch)
        return rows

    def _decode(self, batch: list[_Held], flow: int, chosen: list[list[bytes]] | None = None) -> list[Outcome]:
        """Answers, teacher-forced, all of the batch together; each scored while the next step runs. chosen: filled with the pages of each
        item, one step after another. Tokens that a row attended are a mean of the whole batch."""
        sequences = [self.bench.fork(held.sequence, flow) for held in batch]
        fed = [(held.item.prompt[-1], *held.item.answer[:-1]) for held in batch]
        rows: list[list[concurrent.futures.Future]] = [[] for _ in batch]
        lists: list[list[bytes]] = [[] for _ in batch]
        try:
            self.bench.reset_statistics()
            for step in range(max(map(len, fed))):
                going = [index for index, tokens in enumerate(fed) if step < len(tokens)]
                logits = self.bench.decode([sequences[index] for index in going], [fed[index][step] for index in going])
                for row, index in enumerate(going):
                    rows[index].append(self._scorers.submit(self._scored, batch[index].full, step, logits[row]))
                    if chosen is not None:
                        lists[index] += self._pages(sequences[index])
            counted = self.bench.statistics
            attended = counted.attended_tokens / counted.rows
            outcomes = [held.full.outcome([row.result() for row in one], attended) for held, one in zip(batch, rows)]
        finally:
            for sequence in sequences:
                self.bench.release(sequence)
        if chosen is not None:
            chosen += lists
        return outcomes

    def _scores(self, batch: list[_Held], flow: int) -> list[float]:
        """RULER's, of what is said freely, the likeliest token each time."""
        sequences = [self.bench.fork(held.sequence, flow) for held in batch]
        try:
            steps = max(held.item.room for held in batch)
            tokens = self.bench.greedy(sequences, [held.item.prompt[-1] for held in batch], steps)
        finally:
            for sequence in sequences:
                self.bench.release(sequence)
        stop, scores = set(self.loaded.stop_tokens), []
        for index, held in enumerate(batch):
            said = tokens[index :: len(batch)][: held.item.room]
            end = next((place for place, token in enumerate(said) if token in stop), len(said))
            scores.append(held.item.score(self.loaded.tokenizer.decode(said[:end])))
        return scores

    @staticmethod
    def _scored(full: Reference, position: int, logits: np.ndarray) -> tuple[bool, float, float]:
        require_finite(logits, "discover", full=False)
        return full.row(position, logits)

    def _pages(self, sequence: int) -> list[bytes]:
        """Chosen in the last step, by layer and KV head."""
        config = self.loaded.config
        return [
            np.asarray(self.bench.page_list(sequence, layer, head), dtype=np.int32).tobytes()
            for layer in range(config.layers)
            for head in range(config.attention.kv_heads)
        ]

    def read(self, block: Block) -> honesty.Reading:
        """What a timed block attended."""
        attention = self.loaded.config.attention
        rows = self.workload.batch * self.loaded.config.layers * attention.kv_heads
        return honesty.Reading(block.attended_tokens / rows, self.workload.context + (self.workload.steps + 3) / 2)

    # Speed

    def speed(
        self, program: _core.Program, rounds: int, seed: int = 0, rival: _core.Program | None = None
    ) -> Iterator[tuple[Block, Block, Block, Block]]:
        """Rounds of full, flow, flow, full, or with a rival in full attention's place. Every block is checked: finite logits, the pages that the
        engine counted, equal bits twice."""
        with contextlib.ExitStack() as held:

            def loaded(one: _core.Program) -> tuple[int, float]:
                number = self._load(one)
                held.callback(self.bench.unload_flow, number)
                return number, allowed_tokens(one, self.loaded.config, self.workload.context, self.workload.steps)

            flow, allowed = loaded(program)
            ends, allowed_at_ends = (-1, math.inf) if rival is None else loaded(rival)
            base = self._contexts()
            for number in range(rounds):
                quartet = tuple(
                    time_block(self.bench, self.loaded.model, base, which, self.workload.steps, seed + number)
                    for which in (ends, flow, flow, ends)
                )
                for name, first, second in (
                    (program.name, *quartet[1:3]),
                    ("full attention" if rival is None else rival.name, quartet[0], quartet[3]),
                ):
                    if first.digest != second.digest:
                        raise InternalError(
                            "discover",
                            "the same block gives the same bits twice",
                            f"{name} does not",
                            "this is a defect of Vortex, please report it",
                        )
                check_pages(self.loaded.model, program.name, quartet[1], self.workload.batch, allowed)
                if rival is not None:
                    check_pages(self.loaded.model, rival.name, quartet[0], self.workload.batch, allowed_at_ends)
                yield quartet

    def _contexts(self) -> list[int]:
        while len(self._filled) < self.workload.batch:
            self._filled.append(self.bench.fill(self.workload.context, len(self._filled) + 1))
        return self._filled
