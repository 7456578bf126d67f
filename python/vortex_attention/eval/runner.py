"""Measures a suite: item by item, each prefilled once and decoded through every arm that the ledger does not already know. An item is
one transaction of the ledger, so a run that is killed goes on where it was: at most the item under way is lost; of suites whose items take long
each arm of an item is one, and at most the arm under way is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import UserError
from ..ledger import Ledger, Outcome, Run
from ..measure.decide import is_losing
from .arms import FULL, Arms, plain
from .suite import Done, Item, Suite, nothing_done

Progress = Callable[[str, int, int], None]
Held = Callable[[Arms, Sequence[Item], Sequence[int]], None]  # items and their sequences, while these are there
STOP_LEVEL = 0.999  # of the looks that may stop a losing arm


@dataclass
class Measured:
    """Outcomes by arm, one an item in order; None where an arm was stopped. copied: outcomes that came from the ledger."""

    items: list[Item]
    outcomes: dict[str, list[Outcome | None]]
    copied: int = 0
    stopped: dict[str, int] = field(default_factory=dict)  # arm: items it had when it was stopped
    differing: int = 0  # items on which full attention's bits differ from the ledger's


def run_suite(
    suite: Suite,
    items: Sequence[Item],
    arms: Arms,
    prefill: Callable[[Sequence[int]], int],
    *,
    programs: dict,
    controls: Sequence[str] = (),
    run: Run | None = None,
    progress: Progress = lambda *_: None,
    fresh: bool = False,
    stop_losers: bool = False,
    together: int = 1,
    held: Held | None = None,
) -> Measured:
    """prefill: tokens → sequence of the workbench. programs: of each arm but FULL. run: of the ledger, None to record nothing.
    fresh: measure also what the ledger knows. together: items that are held and measured at once. held: called with the first of them that are
    measured, before they are given back: their KV serves more than one measurement."""
    names = [FULL, *programs]
    records, known = {}, {name: {} for name in names}
    if run is not None:
        records = {name: run.arm(name, programs.get(name), control=plain(name) in controls) for name in names}
        if not fresh:
            known = {name: run.ledger.outcomes(records[name].key) for name in names}
    result = Measured(list(items), {name: [] for name in names})
    what = f"{suite.name}: items"
    progress(what, 0, len(items))
    suite.progress = progress
    going: list[str] = []
    written: set[tuple[str, str]] = set()  # arms of items that are in the ledger before their item is done
    ready: dict[int, dict[str, Outcome]] = {}  # measured, by number of the item
    for index, item in enumerate(items):
        if index not in ready:
            going = [name for name in names if name not in result.stopped]
            group = _alike(items, index, together, going, known)
            missing = [name for name in going if item.name not in known[name]]
            group_items = [items[i] for i in group]
            done = nothing_done if run is None else _Writer(run, records, known, group_items, written)
            found = _measure(suite, group_items, arms, prefill, missing, done, held)
            held = None if missing else held
            ready = dict(zip(group, found, strict=True))
        measured = ready[index]
        if (
            FULL in measured
            and item.name in known[FULL]
            and _scores(measured[FULL]) != _scores(known[FULL][item.name][1])
        ):
            # The ledger's outcomes are of other numerics than they say: none of them is mixed with ours.
            result.differing += 1
            rest = [name for name in going if name not in measured]
            measured = measured | _measure(suite, [item], arms, prefill, rest)[0]
        entries = []
        for name in names:
            if name not in going:
                result.outcomes[name].append(None)
                continue
            source, outcome = (None, measured[name]) if name in measured else known[name][item.name]
            if name == FULL and item.name in known[FULL] and not result.differing:
                source, outcome = known[FULL][item.name]
            result.copied += source is not None
            result.outcomes[name].append(outcome)
            if run is not None and (name, item.name) not in written:
                entries.append((records[name], item.name, outcome, source))
        if run is not None:
            run.add_outcomes(entries)
        if stop_losers and index + 1 not in ready:
            _stop_losers(suite, result, controls)
        progress(what, index + 1, len(items))
    if run is not None:
        run.summary = {"copied": result.copied, "stopped": result.stopped, "differing": result.differing}
    return result


class _Writer:
    """Writes an arm's outcomes of a group of items when they are there. Not when full attention's are others than the ledger's: then nothing of
    the ledger may stand beside them, which the item's end sees to."""

    def __init__(self, run: Run, records: dict, known: dict, items: Sequence[Item], written: set[tuple[str, str]]):
        self.run, self.records, self.known, self.items, self.written = run, records, known, items, written
        self.alike = True

    def __call__(self, name: str, outcomes: list[Outcome]) -> None:
        pairs = list(zip(self.items, outcomes, strict=True))
        if name == FULL:
            known = self.known[FULL]
            self.alike = all(
                item.name not in known or _scores(outcome) == _scores(known[item.name][1]) for item, outcome in pairs
            )
            pairs = [(item, outcome) for item, outcome in pairs if item.name not in known]
        if self.alike and pairs:
            self.run.add_outcomes([(self.records[name], item.name, outcome, None) for item, outcome in pairs])
            self.written.update((name, item.name) for item, _ in pairs)


def _alike(items: Sequence[Item], begin: int, most: int, going: Sequence[str], known: dict) -> range:
    """Numbers of the items from `begin` on that lack the same arms."""

    def lacks(item: Item) -> list[bool]:
        return [item.name in known[name] for name in going]

    end = begin + 1
    while end < min(begin + most, len(items)) and lacks(items[end]) == lacks(items[begin]):
        end += 1
    return range(begin, end)


def _measure(
    suite: Suite,
    items: Sequence[Item],
    arms: Arms,
    prefill: Callable[[Sequence[int]], int],
    missing: Sequence[str],
    done: Done = nothing_done,
    held: Held | None = None,
) -> list[dict[str, Outcome]]:
    """Of each item, the arms that are missing and FULL."""
    if not missing:
        return [{} for _ in items]
    bases: list[int] = []
    try:
        for item in items:
            if len(item.prompt) < 2:
                raise UserError(
                    suite.name, "items of at least two tokens", f"{item.name} has {len(item.prompt)}", "leave it out"
                )
            bases.append(prefill(item.prompt[:-1]))
        found = suite.measure_together(arms, items, bases, [FULL, *(name for name in missing if name != FULL)], done)
        if held is not None:
            held(arms, items, bases)
        return found
    finally:
        for base in bases:
            arms.bench.release(base)
        arms.base = -1


def _scores(outcome: Outcome) -> dict:
    return {name: value for name, value in outcome.scores.items() if not isinstance(value, list)}


def differences(suite: Suite, outcomes: dict[str, list[Outcome | None]], name: str) -> tuple[list[float], list[int]]:
    """The main metric of an arm minus full attention's, larger is better, and the numbers of the items."""
    metric, pairs = suite.main, []
    for index, (arm, full) in enumerate(zip(outcomes[name], outcomes[FULL])):
        if arm is not None and full is not None:
            pairs.append((index, metric.better * (float(arm.scores[metric.name]) - float(full.scores[metric.name]))))
    return [value for _, value in pairs], [index for index, _ in pairs]


def _stop_losers(suite: Suite, result: Measured, controls: Sequence[str]) -> None:
    for name in result.outcomes:
        if name == FULL or plain(name) in controls or name in result.stopped:
            continue
        values, _ = differences(suite, result.outcomes, name)
        if is_losing(values, suite.margin, STOP_LEVEL, least=8):
            result.stopped[name] = len(values)
