"""Steady decode from filled contexts: `batch` sequences of `context` tokens of distinct random KV, physical pages shuffled,
blocks of full, flow, flow, full. Every timed step is checked: finite logits, the pages the engine counted, and the same bits
when the block is run again. Refuses to report a flow whose counted pages do not fit its budget."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import Callable, Sequence

import numpy as np

from .. import _core
from ..errors import InternalError
from ..measure.finite import require_finite
from ..measure.rounds import log_ratio
from ..measure.statistics import Interval, mean_interval, median, ratio_interval

PARTS = ("score", "select", "attend", "append", "summarize", "other")


@dataclass
class Block:
    """One timed run of `steps` steps of one arm; seconds and counts are per step."""

    seconds: float
    parts: dict[str, float]
    bytes: float
    attended_tokens: float
    digest: float  # sum of the last logits: equal bits give an equal digest
    graph_launches: int = 0  # kernels in the captured graph that a step is; 0: a step is no graph
    kernels: tuple[str, ...] = ()  # that ran: "module/kernel"; of a CPU the instruction set

    def observed(self) -> dict:
        """What the ledger keeps beside the seconds."""
        return {
            "parts": self.parts,
            "bytes": self.bytes,
            "attended_tokens": self.attended_tokens,
            "digest": self.digest,
            "graph_launches": self.graph_launches,
            "kernels": list(self.kernels),
        }


@dataclass
class Arm:
    """All blocks of one arm at one (batch, context)."""

    name: str
    blocks: list[Block] = field(default_factory=list)
    paired_full: list[Block] = field(default_factory=list)  # the full-attention blocks beside them
    beside: list[tuple[Block, Block, Block, Block]] = field(
        default_factory=list
    )  # incumbent, this arm, this arm, incumbent

    def log_ratios(self) -> list[float]:
        """Logarithm of full attention's step time ÷ this arm's, one for each A B B A."""
        full, own = self.paired_full, self.blocks
        return [
            math.log((full[i].seconds + full[i + 1].seconds) / (own[i].seconds + own[i + 1].seconds))
            for i in range(0, len(full), 2)
        ]

    def ratio(self) -> Interval | None:
        """Full attention's step time ÷ this arm's, one pair for each A B B A."""
        if not self.paired_full:
            return None
        pairs = range(0, len(self.blocks), 2)
        return ratio_interval(
            [self.paired_full[i].seconds + self.paired_full[i + 1].seconds for i in pairs],
            [self.blocks[i].seconds + self.blocks[i + 1].seconds for i in pairs],
        )

    def ratio_to_incumbent(self) -> Interval | None:
        """The incumbent's step time ÷ this arm's, one pair for each A B B A: above 1 this arm is the faster."""
        if not self.beside:
            return None
        return ratio_interval(
            [before.seconds + after.seconds for before, _, _, after in self.beside],
            [first.seconds + second.seconds for _, first, second, _ in self.beside],
        )


def time_block(workbench, model, base: list[int], flow: int, steps: int, seed: int) -> Block:
    """Forks the filled sequences, makes one step unmeasured and `steps` measured ones, and checks what came out."""
    generator = np.random.default_rng(seed)
    vocabulary = model.config.vocabulary
    feed = generator.integers(0, vocabulary, size=(steps + 1, len(base)))
    sequences = [workbench.fork(sequence, flow) for sequence in base]
    try:
        if model.device == "cpu":
            workbench.decode(sequences, [int(token) for token in feed[0]])
        else:  # the graph that is timed is captured here
            workbench.greedy(sequences, [int(token) for token in feed[0]], 1)
        workbench.reset_statistics()
        began = time.perf_counter()
        if model.device == "cpu":
            for row in feed[1:]:
                logits = workbench.decode(sequences, [int(token) for token in row])
            seconds = (time.perf_counter() - began) / steps
            counted = workbench.statistics
            check_clock(counted, seconds, steps, len(sequences))
        else:  # the logits stay there while it is timed; one step more brings some to be checked
            tokens = workbench.greedy(sequences, [int(token) for token in feed[1]], steps)
            seconds = (time.perf_counter() - began) / steps
            counted = workbench.statistics
            check_clock(counted, seconds, steps, len(sequences))
            logits = workbench.decode(sequences, tokens[-len(sequences) :])
        require_finite(logits, "bench", full=flow < 0)
        return Block(
            seconds=seconds,
            parts={part: getattr(counted, f"{part}_seconds") / steps for part in PARTS}
            if model.device == "cpu"
            else {"step": seconds},  # one graph, timed as a whole
            bytes=model.weight_bytes + (counted.kv_bytes + counted.summary_bytes) / steps,
            attended_tokens=counted.attended_tokens / steps,
            digest=float(np.asarray(logits, dtype=np.float64).sum()),
        )
    finally:
        for sequence in sequences:
            workbench.release(sequence)


def kernels_of(workbench, model, base: list[int], flow: int) -> tuple[int, tuple[str, ...]]:
    """Kernels in the graph of a step of the filled sequences, and their names as the device ran them."""
    if model.device == "cpu":
        return 0, (f"cpu {_core.active_isa()}",)
    sequences = [workbench.fork(sequence, flow) for sequence in base]
    try:
        found = workbench.profile(sequences, [0] * len(sequences))
    finally:
        for sequence in sequences:
            workbench.release(sequence)
    names = dict.fromkeys(f"{one['module']}/{one['kernel']}" for one in found["kernels"])
    return found["launches"], tuple(names)


def check_clock(counted, seconds: float, steps: int, batch: int) -> None:
    """The engine counts its steps and times them itself: what was timed are these steps, all of them, to their end."""
    if counted.steps != steps or counted.tokens != steps * batch:
        raise InternalError(
            "bench",
            f"{steps} steps of {batch} tokens in a block",
            f"the engine counted {counted.steps} steps, {counted.tokens} tokens",
            "report this as a defect",
        )
    if seconds * steps < 0.99 * counted.seconds:
        raise InternalError(
            "bench",
            "a clock that runs until the engine has finished",
            f"{1000 * seconds * steps:.2f} ms for steps that took the engine {1000 * counted.seconds:.2f}",
            "report this as a defect",
        )


def check_pages(model, name: str, block: Block, batch: int, allowed_tokens: float) -> None:
    """The engine counts what it attends; a flow that reads more than its budget is an error, not a result."""
    per_row = block.attended_tokens / (batch * model.config.layers * model.config.attention.kv_heads)
    if per_row > allowed_tokens:
        raise InternalError(
            "bench",
            f"{name} attends at most {allowed_tokens:.0f} tokens a row",
            f"the engine counted {per_row:.1f}",
            "report this as a defect",
        )


def allowed_tokens(program, config, context: int, steps: int) -> float:
    """Tokens a row may attend, a mean over layers and the measured steps: what the flow's own rule says of each. A set of a flow's own
    may hold them all. config: the model's."""
    full, size = set(program.config.full_attention_layers), program.config.page_size
    own_set = "select" in json.loads(program.json())
    newer = -(-(program.config.refresh_every - 1) // size)  # pages that came since the set was chosen
    allowed = []
    for step in range(1, steps + 1):  # the first step is not measured
        tokens = context + step + 1
        for layer in range(config.layers):
            rows = program.rows(tokens, step=step, layer=layer, layers=config.layers, scale=config.attention.scale)
            allowed.append(tokens if own_set or layer in full else (rows["attended"] + newer) * size)
    return sum(allowed) / len(allowed)


def _log_ratio(quartet: Sequence[Block]) -> float:
    return log_ratio([block.seconds for block in quartet])


def blocks(rounds: int, flows: int, incumbent: bool = False) -> int:
    """How many blocks bench_decode times."""
    return rounds * (4 * flows + (4 * (flows - 1) if incumbent else 0) if flows else 2)


def bench_decode(
    workbench,
    model,
    flows: dict[str, tuple[int, float]],
    *,
    batch: int,
    context: int,
    rounds: int,
    steps: int,
    progress: Callable[[], None],
    filled: Callable[[int], None],
    measured: Callable[[str, str, int, tuple[Block, ...]], None] | None = None,
    incumbent: str = "",
    pilot: int = 0,
    planned: Callable[[list[float]], int] | None = None,
) -> list[Arm]:
    """Arms at one (batch, context), full attention first. flows: name → (flow id, tokens a row may attend).

    Each round times every flow in a block full, flow, flow, full. `filled(n)` is called when n contexts are filled, from 0
    on, `progress()` after each block, `measured(flow, baseline, round, (baseline, flow, flow, baseline))` after each round that passed its checks.
    incumbent: one of the flows, beside which each other one is timed as well, in blocks of its own. pilot: rounds of full attention beside itself, timed
    first; `planned(log ratios)` then says how many rounds there will be.
    """
    base: list[int] = []
    full = Arm("full")
    arms = [Arm(name) for name in flows]

    used: dict[int, tuple[int, tuple[str, ...]]] = {}  # by flow

    def block(flow: int, seed: int) -> Block:
        if flow not in used:
            used[flow] = kernels_of(workbench, model, base, flow)
        timed = time_block(workbench, model, base, flow, steps, seed)
        timed.graph_launches, timed.kernels = used[flow]
        progress()
        return timed

    def quartet(arm: Arm, baseline: str, number: int) -> tuple[Block, Block, Block, Block]:
        flow, allowed = flows[arm.name]
        other = -1 if baseline == full.name else flows[baseline][0]
        before, first, second, after = (block(which, number) for which in (other, flow, flow, other))
        if first.digest != second.digest or before.digest != after.digest:
            raise InternalError(
                "bench", "the same block gives the same bits twice", f"{arm.name} does not", "report this as a defect"
            )
        check_pages(model, arm.name, first, batch, allowed)
        if baseline == full.name:
            arm.blocks += [first, second]
            arm.paired_full += [before, after]
            full.blocks += [before, after]
        else:
            arm.beside.append((before, first, second, after))
        return before, first, second, after

    try:
        filled(0)
        for seed in range(1, batch + 1):
            base.append(workbench.fill(context, seed))
            filled(seed)
        if planned:
            rounds = planned([_log_ratio([block(-1, number) for _ in range(4)]) for number in range(pilot)])
        for round_index in range(rounds):
            for arm in arms:
                for baseline in (full.name, incumbent):
                    if baseline and baseline != arm.name:
                        timed = quartet(arm, baseline, round_index)
                        if measured:
                            measured(arm.name, baseline, round_index, timed)
        if not arms:
            full.blocks = [block(-1, index) for index in range(2 * rounds)]
    finally:
        for sequence in base:
            workbench.release(sequence)
    return [full, *arms]


def summarise(arm: Arm, batch: int, read_bandwidth: Callable[[int], float]) -> dict:
    """A JSON-ready row: medians over blocks, the paired ratio, and the speed of light from the bytes the engine counted.

    read_bandwidth(bytes) gives the bytes a second at which a buffer of so many bytes streams: small sets stay in the cache.
    """
    seconds = median([block.seconds for block in arm.blocks])
    size = median([block.bytes for block in arm.blocks])
    bandwidth = read_bandwidth(int(size))
    floor = size / bandwidth
    ratio, beside = arm.ratio(), arm.ratio_to_incumbent()
    return {
        "name": arm.name,
        "milliseconds": 1000 * seconds,
        "spread": mean_interval([1000 * block.seconds for block in arm.blocks]).to_json(),
        "tokens_per_second": batch / seconds,
        "ratio": ratio.to_json() if ratio else None,
        "ratio_to_incumbent": beside.to_json() if beside else None,
        "bytes": size,
        "read_gigabytes_per_second": bandwidth / 1e9,
        "floor_milliseconds": 1000 * floor,
        "share_of_light": floor / seconds,
        "attended_tokens": median([block.attended_tokens for block in arm.blocks]),
        "graph_launches": arm.blocks[0].graph_launches,
        "kernels": list(arm.blocks[0].kernels),
        "parts": {part: median([block.parts[part] for block in arm.blocks]) for part in arm.blocks[0].parts},
    }
