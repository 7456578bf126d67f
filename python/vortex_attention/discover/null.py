"""A laboratory without a model: numbers drawn from a flow's hash, at once. For trying the loop itself: kills, resumption, many workers."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .. import _core
from ..bench.decode import Block
from ..eval.score import Outcome
from . import honesty
from .laboratory import ItemResult, Workload, price_facts
from .mutate import Geometry


class NullLaboratory:
    """The same verbs as Laboratory. A flow's true gain and speed are fixed by its hash; items and blocks add noise of their own."""

    timing = False  # nothing is timed: it need not have the machine alone

    def __init__(self, workload: Workload):
        self.workload = workload
        self.geometry = Geometry(head_dim=64, group=3, value_dim=64, layers=30)
        self.model = ("null", "0" * 64)
        self.numerics = "null"

    def price(self, program: _core.Program) -> dict:
        plan = _core.compile_flow(program, head_dim=64, group=3, value_dim=64)
        price = _core.price(
            plan, layers=30, heads=9, kv_heads=3, head_dim=64, context=self.workload.context, batch=self.workload.batch
        )
        return price_facts(price)

    def truth(self, program: _core.Program) -> tuple[float, float]:
        """Gain in nat and speed beside full attention."""
        if not program.summaries:  # nothing to choose by
            return -2.0, 4.0
        rng = random.Random(program.hash)
        return -abs(rng.gauss(0, 0.3)), rng.uniform(1.5, 4.0)

    def accuracy(self, program: _core.Program, part: str, seed: int = 0) -> Iterator[list[ItemResult]]:
        count = {
            "screen": self.workload.screen_items,
            "gate": self.workload.gate_items,
            "confirm": self.workload.confirm_items,
        }[part]
        gain, _ = self.truth(program)
        results = []
        for index in range(count):
            hard = random.Random(f"{part} {seed} {index}").gauss(0, 0.2)
            noise = random.Random(f"{program.hash} {part} {seed} {index}").gauss(0, 0.05)
            full = Outcome(True, -0.2 + hard, 0.0, float(self.workload.length))
            results.append(
                ItemResult(
                    f"null-{part}-{seed}-{index}",
                    full,
                    Outcome(gain > -0.2, full.log_probability + gain + noise, -gain, 512.0),
                )
            )
        for start in range(0, count, 8):
            yield results[start : start + 8]

    def expect(self, programs) -> None:
        """Nothing is compiled for a device here."""

    def expect_confirmation(self, seed: int) -> None:
        """Questions are made when they are asked for."""

    def require_need(self, least: float) -> None:
        """These items need what a flow chooses: see truth."""

    def read(self, block: Block) -> honesty.Reading:
        return honesty.Reading(block.attended_tokens, float(self.workload.context))

    def behaviour(self, program: _core.Program) -> str:
        return f"{program.config.page_size}:{program.hash}"

    def speed(
        self, program: _core.Program, rounds: int, seed: int = 0, rival: _core.Program | None = None
    ) -> Iterator[tuple[Block, Block, Block, Block]]:
        (_, ratio), full = self.truth(program), float(self.workload.context)
        ends = (0.06, full) if rival is None else (0.06 / self.truth(rival)[1], 512.0)
        for number in range(rounds):
            rng = random.Random(f"{program.hash} {rival.hash if rival else ''} {seed} {number}")
            yield tuple(
                Block(seconds * rng.uniform(0.99, 1.01), {}, 1.0, tokens, 0.0)
                for seconds, tokens in (ends, (0.06 / ratio, 512.0), (0.06 / ratio, 512.0), ends)
            )
