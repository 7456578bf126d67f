"""Decode drift: full attention continues a short prompt for thousands of tokens; every arm is fed that continuation token by token
through its own decode path, so the KV it reads is its own. Beside it, at the same positions, one step of the arm on full
attention's KV: the difference is what the arm's own KV costs. An item is one continuation; several go side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import UserError
from ...ledger import Outcome
from ...measure.finite import require_finite
from ..arms import FULL, Arms
from ..course import Course
from ..suite import Item, Metric, Suite
from .context import Context

VERSION = 2
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
TEMPERATURE, LEAST, CURVE = 0.8, 1e-3, 16
KEPT_EVERY = 2048  # steps after which what was written is kept


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
            "min_p": LEAST,
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

    def lanes(self, arms: int, together: int) -> int:
        return arms if together == 1 else 2 * together

    def measure(self, arms: Arms, item: Item, names: Sequence[str]) -> dict[str, Outcome]:
        return self.measure_together(arms, [item], [arms.base], names)[0]

    def measure_together(
        self, arms: Arms, items: Sequence[Item], bases: Sequence[int], names: Sequence[str]
    ) -> list[dict[str, Outcome]]:
        others = [name for name in names if name != FULL]
        course = Course(arms, items, bases, others, self.settings["every"])
        # Where arms of different flows share the reading of the weights, they advance with full attention.
        fit = len(items) * (len(others) + 1) <= arms.bench.max_batch
        riding = others if arms.ahead == 1 and fit else []
        try:
            self._write(course, riding)
            course.compare_dense()
            for name in others:
                if not course.has_followed(name):
                    course.follow(name)
        finally:
            course.release()
        return [
            {
                name: Outcome(_summary(course.scores(index, name), course.positions(index)), counts.observed(arms.rows))
                for name, counts in course.counts[index].items()
            }
            for index in range(len(items))
        ]

    def _write(self, course: Course, riding: Sequence[str]) -> None:
        """Full attention goes on from what is known of its texts; the arms `riding` beside it when nothing is."""
        draws = f"drift {VERSION} seed {self.settings['seed']} temperature {TEMPERATURE} min_p {LEAST}"
        kept = self.context.continuations
        known = [kept.find(item.prompt, draws) if kept else [] for item in course.items]
        generators = [np.random.default_rng([self.settings["seed"], item.data]) for item in course.items]
        banned = self.context.stop

        def draw(index: int, logits: np.ndarray) -> int:
            return _draw(logits, banned, generators[index].random())

        begin = course.begin(known)
        for generator in generators:
            generator.random(begin)
        for step in course.write(draw, riding if begin == 0 else []):
            if kept and (step % KEPT_EVERY == KEPT_EVERY - 1 or step + 1 == course.most):
                for item, text in zip(course.items, course.texts):
                    kept.keep(item.prompt, draws, text)


def _draw(logits: np.ndarray, banned: frozenset[int], at: float) -> int:
    """Among the tokens that have at least LEAST of the likeliest one's share, the first at which the sum of shares exceeds `at` of
    their whole; a continuation does not end."""
    top = logits.max()
    if not np.isfinite(top):  # NaN, if there is any
        require_finite(logits, "eval", full=True)
    near = np.flatnonzero(logits >= top + TEMPERATURE * np.log(LEAST))
    if not banned.isdisjoint(near.tolist()):
        others = logits.copy()
        others[sorted(banned)] = -np.inf
        near = np.flatnonzero(others >= others.max() + TEMPERATURE * np.log(LEAST))
    wide = logits[near].astype(np.float64) / TEMPERATURE
    sums = np.cumsum(np.exp(wide - wide.max()))
    return int(near[min(np.searchsorted(sums, at * sums[-1], side="right"), len(near) - 1)])


def _summary(found: dict[str, list], positions: list[int]) -> dict:
    scores: dict = {name: float(np.mean(values)) for name, values in found.items()}
    for name in ("kl", "kl_dense", "agreement"):
        scores[f"{name}_curve"] = [
            float(np.mean(part)) for part in np.array_split(np.asarray(found[name], dtype=float), CURVE)
        ]
    scores["positions"] = [int(part[-1]) for part in np.array_split(np.asarray(positions), CURVE)]
    return scores
