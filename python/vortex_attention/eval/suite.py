"""What a suite is: items, how an item is measured through arms, how its scores read. A suite knows no flow and no ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..ledger import Outcome
from .arms import Arms

FULL = "full"
Done = Callable[[str, list[Outcome]], None]  # an arm, its outcomes of all items that are measured together


def nothing_done(name: str, outcomes: list[Outcome]) -> None:
    pass


@dataclass(frozen=True)
class Item:
    """One question. `prompt` is prefilled but for its last token, which every arm decodes itself. steps: decode steps at most.
    group: the cell of the suite's table. cluster: items that share one are not independent; "": its own."""

    name: str
    prompt: tuple[int, ...]
    steps: int
    group: str = ""
    cluster: str = ""
    facts: dict[str, Any] = field(default_factory=dict)  # JSON-ready, no text of the item
    data: Any = None  # what the suite scores with


@dataclass(frozen=True)
class Metric:
    """A score by its name in outcomes. better: +1 larger, −1 smaller. scale: by which tables multiply it."""

    name: str
    title: str
    better: int = 1
    digits: int = 3
    scale: float = 1.0


class Suite:
    """Base of the suites. `metrics[0]` is what decides: an arm is as good as full attention when it loses less than `margin`
    of it. `settings` holds all that fixes items and scoring. deviation: of one item's paired difference, as it usually is;
    worst: what an item may lose. pass_fail: the metric, if there is one, that is 0 or 1 of each item's single greedy try."""

    name = ""
    metrics: tuple[Metric, ...] = ()
    margin = 0.0
    deviation = 0.0
    worst = 0.0
    pass_fail = ""
    settings: dict[str, Any] = {}
    progress: Callable[[str, int, int], None] = staticmethod(
        lambda what, done, of: None
    )  # of a long item, by "NAME: steps"

    def items(self) -> list[Item]:
        raise NotImplementedError

    def measure(self, arms: Arms, item: Item, names: Sequence[str]) -> dict[str, Outcome]:
        """Outcomes of the arms, FULL among them, on one item whose base sequence `arms` holds. A suite has this of its own, or
        measure_together."""
        return self.measure_together(arms, [item], [arms.base], names)[0]

    def lanes(self, arms: int, together: int) -> int:
        """Forks whose own tokens are held at once."""
        return max(arms * getattr(self, "branches", 1), together)

    def measure_together(
        self,
        arms: Arms,
        items: Sequence[Item],
        bases: Sequence[int],
        names: Sequence[str],
        done: Done = nothing_done,
    ) -> list[dict[str, Outcome]]:
        """Of several items whose sequences are there at once: one after the other, unless a suite does better. done: told of arms that are
        measured before the others, FULL first, by suites whose items take long."""
        found = []
        for item, base in zip(items, bases, strict=True):
            arms.base = base
            found.append(self.measure(arms, item, names))
        return found

    @property
    def main(self) -> Metric:
        return self.metrics[0]
