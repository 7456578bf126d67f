"""Decode drift: full attention continues a short prompt for thousands of tokens; every arm is fed that continuation token by token
through its own decode path, so the KV it reads is its own. Beside it, at the same positions, one step of the arm on full
attention's KV: the difference is what the arm's own KV costs. An item is one continuation and is measured in one piece."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import UserError
from ...ledger import Outcome
from ..arms import FULL, Arms, Branches, divergence
from ..score import log_softmax
from ..suite import Item, Metric, Suite
from .context import Context

VERSION = 1
PROMPTS = (
    "Tell the long story of a lighthouse keeper, chapter by chapter.",
    "Write a detailed history of how people learned to measure time.",
    "Explain step by step how a town could build its own small power grid.",
    "Write a long dialogue between a botanist and a clockmaker about patience.",
    "Describe a journey across a continent, one day after the other.",
    "Write a long essay on how rivers shape cities.",
    "Explain how a ship is built, from the keel to the sails, in great detail.",
    "Tell the story of a library that was lost and found again.",
)
TEMPERATURE, CURVE = 0.8, 16


class DriftSuite(Suite):
    name = "drift"
    options = ("items", "length", "seed", "every")
    metrics = (Metric("kl", "KL, own KV", better=-1, digits=4), Metric("kl_dense", "KL, full's KV", better=-1, digits=4),
               Metric("agreement", "same token"))  # fmt: skip
    margin, deviation, worst = 0.05, 0.05, 1.0

    def __init__(self, context: Context, items: int = 1, length: int = 8000, seed: int = 1, every: int = 64):
        """length: tokens of prompt and continuation. every: distance of the positions that are compared."""
        self.context = context
        if items > len(PROMPTS):
            raise UserError("drift", f"at most {len(PROMPTS)} items", str(items), "lower --items")
        if not 1 <= every <= length // CURVE:
            raise UserError(
                "drift", f"a distance of 1 to {length // CURVE} for {length} tokens", f"--every {every}", "lower it"
            )
        self.settings = {
            "length": length,
            "count": items,
            "seed": seed,
            "every": every,
            "temperature": TEMPERATURE,
            "generator": VERSION,
        }
        context.need(length, "a continuation")

    def items(self) -> list[Item]:
        made = []
        for index in range(self.settings["count"]):
            text = self.context.chat(PROMPTS[index], "") if self.context.chat else PROMPTS[index]
            prompt = tuple(self.context.encode(text))
            steps, least = self.settings["length"] - len(prompt), CURVE * self.settings["every"]
            if steps < least:
                raise UserError(
                    "drift",
                    f"a continuation of at least {least} tokens, {CURVE} positions that are compared",
                    f"{max(steps, 0)} after a prompt of {len(prompt)}",
                    "raise --length, or lower --every",
                )
            made.append(
                Item(
                    f"drift-{self.settings['length']}-{self.settings['seed']}-{index}",
                    prompt,
                    steps,
                    facts={"tokens": len(prompt)},
                    data=index,
                )
            )
        return made

    def measure(self, arms: Arms, item: Item, names: Sequence[str]) -> dict[str, Outcome]:
        """Full attention and the arms advance together; each token is drawn from full attention's distribution."""
        others = [name for name in names if name != FULL]
        if len(others) + 1 > arms.bench.max_batch:
            raise UserError(
                "drift",
                f"at most {arms.bench.max_batch - 1} arms at once",
                str(len(others)),
                "measure fewer flows, or raise max_batch",
            )
        generator = np.random.default_rng([self.settings["seed"], item.data])
        banned = sorted(self.context.stop)
        found: dict[str, dict[str, list]] = {name: {"kl": [], "kl_dense": [], "agreement": []} for name in names}
        positions: list[int] = []
        with arms.fork([FULL, *others]) as branches:
            token = item.prompt[-1]
            for step in range(item.steps):
                compared = step % self.settings["every"] == self.settings["every"] - 1
                dense = self._dense(arms, branches, others, token) if compared else {}
                logits = branches.decode([token] * len(branches.names))
                if compared:
                    positions.append(len(item.prompt) + step)
                    rows = [log_softmax(row) for row in logits]
                    for name, row in zip(branches.names, rows):
                        found[name]["kl"].append(divergence(rows[0], row))
                        found[name]["kl_dense"].append(divergence(rows[0], dense.get(name, rows[0])))
                        found[name]["agreement"].append(bool(row.argmax() == rows[0].argmax()))
                token = _draw(logits[0], banned, generator)
            counts = branches.counts
        return {name: Outcome(_summary(found[name], positions), counts[name].observed(arms.rows)) for name in names}

    @staticmethod
    def _dense(arms: Arms, branches: Branches, others: list[str], token: int) -> dict[str, np.ndarray]:
        """Log-probabilities of one step of each arm on full attention's KV so far."""
        if not others:
            return {}
        with arms.fork(others, base=branches.sequences[0]) as fresh:
            return {name: log_softmax(row) for name, row in zip(others, fresh.decode([token] * len(others)))}


def _draw(logits: np.ndarray, banned: list[int], generator: np.random.Generator) -> int:
    wide = logits.astype(np.float64) / TEMPERATURE
    wide[banned] = -np.inf  # the continuation does not end
    return int((wide + generator.gumbel(size=wide.size)).argmax())


def _summary(found: dict[str, list], positions: list[int]) -> dict:
    scores: dict = {name: float(np.mean(values)) for name, values in found.items()}
    for name in ("kl", "kl_dense", "agreement"):
        scores[f"{name}_curve"] = [
            float(np.mean(part)) for part in np.array_split(np.asarray(found[name], dtype=float), CURVE)
        ]
    scores["positions"] = [int(part[-1]) for part in np.array_split(np.asarray(positions), CURVE)]
    return scores
