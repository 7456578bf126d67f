"""Perplexity and KL on long natural text: a stretch is prefilled, the tokens after it are decoded through each arm, fed as they
stand; both figures by position."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from ...errors import UserError
from ...ledger import Outcome
from ..arms import FULL, Arms, divergence
from ..score import log_softmax
from ..suite import Item, Metric, Suite
from .context import Context

BUCKETS = 8
VERSION = 1


class TextSuite(Suite):
    name = "text"
    options = ("items", "length", "seed", "steps")
    metrics = (
        Metric("log_probability", "log-prob a token"),
        Metric("kl", "KL to full", better=-1, digits=4),
        Metric("agreement", "same token"),
    )
    margin, deviation, worst = 0.02, 0.05, 0.5

    def __init__(self, context: Context, items: int = 8, length: int = 4096, seed: int = 1, steps: int = 128):
        """length: tokens prefilled. steps: tokens decoded after them."""
        self.context = context
        self.settings = {"length": length, "count": items, "seed": seed, "steps": steps, "generator": VERSION}
        if steps < BUCKETS:
            raise UserError("text", f"at least {BUCKETS} steps", str(steps), "raise --steps")
        context.need(length + steps + 1, "a stretch of text")

    def items(self) -> list[Item]:
        text, settings = self.context.natural(), self.settings
        generator = random.Random(settings["seed"])
        wanted = settings["length"] + settings["steps"] + 1
        made = []
        for index in range(settings["count"]):
            start = generator.randrange(max(1, len(text) - 8 * wanted))
            tokens = self.context.encode(text[start : start + 8 * wanted])[:wanted]
            if len(tokens) < wanted:
                raise UserError(
                    "text",
                    f"a text of {wanted} tokens",
                    f"{len(tokens)} tokens from character {start} on",
                    "lower --length",
                )
            cut = settings["length"]
            made.append(
                Item(
                    f"text-{cut}-{settings['steps']}-{settings['seed']}-{index}",
                    tuple(tokens[: cut + 1]),
                    settings["steps"],
                    facts={"tokens": cut, "start": start},
                    data=tuple(tokens[cut:]),
                )
            )
        return made

    def measure(self, arms: Arms, item: Item, names: Sequence[str]) -> dict[str, Outcome]:
        fed, right = item.data[:-1], item.data[1:]
        collected = {name: {"log_probability": [], "kl": [], "agreement": []} for name in names}
        counts: dict = {}
        full_rows: list[np.ndarray] = []
        for group in [[FULL], *arms.groups([name for name in names if name != FULL])]:
            with arms.fork(group) as branches:
                for position, (token, target) in enumerate(zip(fed, right)):
                    logits = branches.decode([token] * len(group))
                    for name, row in zip(group, logits):
                        own = log_softmax(row)
                        if name == FULL:
                            full_rows.append(own)
                        full = full_rows[position]
                        into = collected[name]
                        into["log_probability"].append(float(own[target]))
                        into["kl"].append(0.0 if name == FULL else divergence(full, own))
                        into["agreement"].append(bool(own.argmax() == full.argmax()))
                counts |= branches.counts
        return {name: Outcome(_means(collected[name]), counts[name].observed(arms.rows)) for name in names}


def _means(collected: dict[str, list]) -> dict:
    """Means, and curves of means over equal stretches of positions."""
    scores: dict = {name: float(np.mean(values)) for name, values in collected.items()}
    for name in ("log_probability", "kl"):
        scores[f"{name}_curve"] = [
            float(np.mean(part)) for part in np.array_split(np.asarray(collected[name]), BUCKETS)
        ]
    return scores
