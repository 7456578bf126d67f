"""The job behind `vortex eval --suite all`: every suite that a small model can be asked, one after the other, with the controls, in about half
an hour on two cores. What the ledger knows is not measured again, so a run that was killed goes on where it was. A suite that the model
cannot run is named with the reason, and RULER's tasks that full attention cannot do are named as beyond the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..errors import UserError
from ..eval.suites import known_options
from ..ledger import Ledger
from . import measure

FLOWS = ("centroid", "quest", "slow_means")
RECORDING = 0.9  # of the screen's time
BEYOND = 0.5  # of RULER's score: a task that full attention solves less often is beyond the model


@dataclass(frozen=True)
class Part:
    """A suite with its settings; weight: its share of the time, in no unit."""

    suite: str
    weight: float
    options: dict = field(default_factory=dict)


PARTS = (
    Part("screen", 2, {"items": 4, "length": 2048, "positions": 16}),
    Part("text", 3, {"items": 4, "length": 2048, "steps": 64}),
    Part("needle", 6, {"items": 12, "length": 2048}),
    Part("ruler", 10, {"items": 1, "length": 2048}),
    Part("drift", 28, {"items": 1, "length": 8000, "every": 64}),
)


class Whole:
    """Tells of all suites together, in hundredths; whoever shows it knows how long the rest takes at the pace so far."""

    def __init__(self, parts: Sequence[Part], progress: Callable[[str, int, int], None]):
        self.parts, self.progress = parts, progress
        self.total = sum(part.weight for part in parts)
        self.before = 0.0  # weight of the parts that are done
        self.tell(0.0)

    def of_part(self, part: Part) -> Callable[[str, int, int], None]:
        items, steps, traced = f"{part.suite}: items", f"{part.suite}: steps", 0.0
        seen = [0, 1]  # items that are done, and of how many

        def advance(what: str, done: int, of: int) -> None:
            nonlocal traced
            self.progress(what, done, of)
            if what == "recording traces" and of:  # what the screen takes long for
                traced = RECORDING
                self.tell(self.before + part.weight * RECORDING * done / of)
            if what == items and of:
                seen[:] = done, of
                self.tell(self.before + part.weight * (traced + (1 - traced) * done / of))
            if what == steps and of:  # of the item under way
                self.tell(self.before + part.weight * (seen[0] + done / of) / seen[1])

        return advance

    def finish(self, part: Part) -> None:
        self.before += part.weight
        self.tell(self.before)

    def tell(self, weight: float) -> None:
        self.progress("all suites", round(100 * weight / self.total), 100)


def all_suites(
    wanted: measure.Wanted,
    progress: Callable[[str, int, int], None],
    ledger: Ledger | None,
    parts: Sequence[Part] = PARTS,
) -> dict:
    """wanted.options: those given replace each part's own, where its suite knows them. The results of the suites, those left out and why, and the
    tasks that are beyond the model."""
    given = {key: value for key, value in wanted.options.items() if value is not None}
    for name in given:
        if not any(name in known_options(part.suite) for part in parts):
            raise UserError("eval", "options that a suite of all knows", f"--{name}", "leave it out")
    began, whole, results, left_out = time.monotonic(), Whole(parts, progress), [], []
    for part in parts:
        options = part.options | {key: value for key, value in given.items() if key in known_options(part.suite)}
        try:
            own = replace(wanted, suite=part.suite, options=options)
            results.append(measure.accuracy(own, whole.of_part(part), ledger))
        except UserError as error:
            left_out.append({"suite": part.suite, "why": str(error)})
            progress(f"{part.suite} is left out: {error}", 1, 1)
        whole.finish(part)
    if not results:
        raise UserError(
            "eval", "a suite that the model can run", "; ".join(one["why"] for one in left_out), "name one with --suite"
        )
    return {
        "schema": 1,
        "suites": results,
        "left_out": left_out,
        "beyond": beyond(results),
        "minutes": (time.monotonic() - began) / 60,
    }


def beyond(results: Sequence[dict]) -> list[dict]:
    """RULER's tasks of which full attention solves less than BEYOND: the model cannot do them, whatever is attended."""
    found = []
    for result in results:
        if result["suite"] == "ruler":
            full = next(arm for arm in result["arms"] if arm["role"] == "full")
            found += [{"task": task, "score": score} for task, score in full["groups"].items() if score < BEYOND]
    return found
