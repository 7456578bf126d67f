"""A screen of selections, no answers: at positions of a text, on full attention's KV, which of the pages that full attention gives
the most mass does a flow read. The pages that oracle reads are those; pinned pages, which every flow reads, are left out. Given
by layer and KV head, so the worst head shows. A screen is a proxy: what it is worth is its correlation with the suites that decide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import UserError
from ...ledger import Outcome
from ..arms import FULL, Arms, Counts
from ..suite import Item, Metric, Suite
from .context import Context
from .text import TextSuite

ORACLE = "oracle"
VERSION = 1


class ScreenSuite(Suite):
    name = "screen"
    options = ("items", "length", "seed", "steps", "every")
    metrics = (Metric("recall", "recall of oracle's pages"), Metric("worst", "of the worst head"))
    margin, deviation, worst = 0.05, 0.05, 1.0

    def __init__(
        self, context: Context, items: int = 4, length: int = 4096, seed: int = 1, steps: int = 64, every: int = 8
    ):
        """length: tokens prefilled. steps: tokens after them; at every `every`-th the selections are compared."""
        if not 1 <= every <= steps:
            raise UserError("screen", f"a distance of 1 to {steps}", f"--every {every}", "lower it")
        self.every = every
        self.text = TextSuite(context, items=items, length=length, seed=seed, steps=steps)
        self.settings = self.text.settings | {"every": every, "screen": VERSION}

    def items(self) -> list[Item]:
        return [
            Item(item.name.replace("text", "screen", 1), item.prompt, item.steps, facts=item.facts, data=item.data)
            for item in self.text.items()
        ]

    def measure(self, arms: Arms, item: Item, names: Sequence[str]) -> dict[str, Outcome]:
        if ORACLE not in arms.flows:
            raise UserError("screen", "oracle among the arms", f"{', '.join(arms.flows)}", "leave the controls in")
        others = [name for name in dict.fromkeys([ORACLE, *names]) if name != FULL]
        found: dict[str, list[np.ndarray]] = {name: [] for name in others}
        counts = {name: Counts() for name in [FULL, *others]}
        with arms.fork([FULL]) as full:
            for step, token in enumerate(item.data[:-1]):
                if step % self.every == self.every - 1:
                    self._compare(arms, full.sequences[0], token, others, found, counts)
                full.decode([token])
            counts[FULL] = full.counts[FULL]
        rows = {name: np.mean(values, axis=0) for name, values in found.items()} | {FULL: np.ones((1, 1))}
        return {name: Outcome({"recall": float(rows[name].mean()), "worst": float(rows[name].min()), "heads": np.round(rows[name], 4).tolist()},
                              counts[name].observed(arms.rows)) for name in names}  # fmt: skip

    @staticmethod
    def _compare(
        arms: Arms,
        base: int,
        token: int,
        others: list[str],
        found: dict[str, list[np.ndarray]],
        counts: dict[str, Counts],
    ) -> None:
        """Adds the recall [layers, KV heads] of each arm on one more position."""
        wanted = None
        for group in arms.groups(others):
            with arms.fork(group, base=base) as branches:
                branches.decode([token] * len(group))
                for name, sequence in zip(group, branches.sequences):
                    read = arms.tokens_read(name, sequence)
                    if wanted is None:  # oracle comes first
                        wanted = read & ~arms.pinned(name, read.shape[-1])
                    asked = np.maximum(wanted.sum(-1), 1)
                    found[name].append(np.where(wanted.any(-1), (read & wanted).sum(-1) / asked, 1.0))
                for name, count in branches.counts.items():
                    counts[name].pages, counts[name].tokens, counts[name].steps = (
                        counts[name].pages + count.pages, counts[name].tokens + count.tokens, counts[name].steps + count.steps)  # fmt: skip
