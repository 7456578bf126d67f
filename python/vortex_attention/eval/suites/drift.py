"""Decode drift: full attention answers request after request for thousands of tokens; every arm is fed that conversation token by token
through its own decode path, so the KV it reads is its own. Beside it, at the same positions, one step of the arm on full
attention's KV: the difference is what the arm's own KV costs. An item is one conversation; several go side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...errors import UserError
from ...ledger import Outcome
from ..arms import FULL, Arms
from .. import conversation
from ..course import Course
from ..suite import Done, Item, Metric, Suite, nothing_done
from .context import Context

CURVE = 16
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
        if length < CURVE:
            raise UserError("drift", f"at least {CURVE} tokens", f"--length {length}", "raise it")
        if not 1 <= every <= length // CURVE:
            raise UserError(
                "drift", f"a distance of 1 to {length // CURVE} for {length} tokens", f"--every {every}", "lower it"
            )
        self.settings = {
            "length": length,
            "count": items,
            "seed": seed,
            "every": every,
            "temperature": conversation.TEMPERATURE,
            "min_p": conversation.LEAST,
            "generator": conversation.VERSION,
        }
        context.need(length, "a continuation")

    def items(self) -> list[Item]:
        made = []
        for index in range(self.settings["count"]):
            first = self._writer(index).first
            text = self.context.chat(first, "") if self.context.chat else first
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

    def _writer(self, index: int) -> conversation.Writer:
        def turn(request: str) -> list[int]:
            return self.context.encode(self.context.next_turn(request))

        return conversation.Writer(self.settings["seed"], index, turn, self.context.stop)

    def lanes(self, arms: int, together: int) -> int:
        """Full attention's whole texts, and as many as are decoded at once."""
        return together + max(arms, together)

    def measure_together(
        self,
        arms: Arms,
        items: Sequence[Item],
        bases: Sequence[int],
        names: Sequence[str],
        done: Done = nothing_done,
    ) -> list[dict[str, Outcome]]:
        others = [name for name in names if name != FULL]
        course = Course(arms, items, bases, others, self.settings["every"])
        steps = course.most * (1 + len(others))

        def outcomes(name: str) -> list[Outcome]:
            return [
                Outcome(_summary(course.scores(i, name), course.positions(i)), counts[name].observed(arms.rows))
                for i, counts in enumerate(course.counts)
            ]

        found: dict[str, list[Outcome]] = {}
        try:
            self._write(course, lambda step: self.progress("drift: steps", step, steps))
            course.compare_full()
            found[FULL] = outcomes(FULL)
            done(FULL, found[FULL])
            for group in course.groups(others):
                before = len(found) * course.most
                for step in course.follow(group):
                    self.progress("drift: steps", before + (step + 1) * len(group), steps)
                course.compare_dense(group)
                for name in group:
                    found[name] = outcomes(name)
                    done(name, found[name])
        finally:
            course.release()
        return [{name: of_items[index] for name, of_items in found.items()} for index in range(len(items))]

    def _write(self, course: Course, told: Callable[[int], None]) -> None:
        """Full attention goes on from what is known of its texts."""
        settings = self.settings
        draws = f"drift {conversation.VERSION} seed {settings['seed']} temperature {conversation.TEMPERATURE} min_p {conversation.LEAST}"
        kept = self.context.continuations
        known = [kept.find(item.prompt, f"{draws} {item.data}") if kept else [] for item in course.items]
        writers = [self._writer(item.data) for item in course.items]
        if all(len(text) >= item.steps for item, text in zip(course.items, known)):
            course.begin(known)
            return
        known = [text[: self._writer(item.data).usable(text)] for item, text in zip(course.items, known)]
        begin = course.begin(known)
        for writer, text in zip(writers, known):
            writer.take_up(text, begin)

        def draw(index: int, logits: np.ndarray) -> int:
            return writers[index].next(logits)

        for step in course.write(draw):
            if step % self.settings["every"] == 0:
                told(step)
            if kept and (step % KEPT_EVERY == KEPT_EVERY - 1 or step + 1 == course.most):
                for item, text in zip(course.items, course.texts):
                    kept.keep(item.prompt, f"{draws} {item.data}", text)


def _summary(found: dict[str, list], positions: list[int]) -> dict:
    scores: dict = {name: float(np.mean(values)) for name, values in found.items()}
    for name in ("kl", "kl_dense", "agreement"):
        scores[f"{name}_curve"] = [
            float(np.mean(part)) for part in np.array_split(np.asarray(found[name], dtype=float), CURVE)
        ]
    scores["positions"] = [int(part[-1]) for part in np.array_split(np.asarray(positions), CURVE)]
    return scores
