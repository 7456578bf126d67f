"""Single needles in natural text: exact match, answer log-probability, KL."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UserError
from ...ledger import Outcome
from .. import needle
from ..arms import FULL, Arms, forced
from ..score import score
from ..suite import Item, Metric, Suite
from .context import Context


class NeedleSuite(Suite):
    name = "needle"
    options = ("items", "length", "seed")
    metrics = (
        Metric("log_probability", "answer log-prob"),
        Metric("exact", "exact match", digits=2),
        Metric("kl", "KL to full", better=-1),
    )
    margin, deviation, worst = 0.10, 0.30, 3.0
    pass_fail = "exact"

    def __init__(self, context: Context, items: int = 48, length: int = 4096, seed: int = 1):
        self.context = context
        self.settings = {"length": length, "count": items, "seed": seed, "generator": needle.VERSION}
        context.need(length + 32, "a needle's prompt and answer")
        if context.chat is None:
            raise UserError("needle", "a model with a chat template", "its file has none", "use --suite text or ruler")

    def items(self) -> list[Item]:
        made = needle.make_items(
            self.context.natural(),
            self.context.encode,
            self.context.chat,
            length=self.settings["length"],
            count=self.settings["count"],
            seed=self.settings["seed"],
        )
        return [
            Item(
                item.name,
                item.prompt,
                len(item.answer),
                facts={"depth": item.depth, "tokens": len(item.prompt)},
                data=item,
            )
            for item in made
        ]

    def measure(self, arms: Arms, item: Item, names: Sequence[str]) -> dict[str, Outcome]:
        answer = item.data.answer
        rows, counts = forced(arms, names, [item.prompt[-1], *answer[:-1]])
        found = {}
        for name in names:
            outcome = score(rows[FULL], rows[name], answer, 0.0)
            scores = {"log_probability": outcome.log_probability, "exact": outcome.exact, "kl": outcome.kl}
            found[name] = Outcome(scores, counts[name].observed(arms.rows))
        return found
