"""What a suite's outcomes say: means with intervals, the paired difference to full attention, a verdict against the suite's margin,
and whether the suite may rank at all: when random pages score like full attention, its items do not need what attention reads."""

from __future__ import annotations

from collections import defaultdict

from ..ledger import Outcome
from ..measure.bootstrap import paired_bootstrap
from ..measure.decide import NON_INFERIOR, holm, mcnemar, non_inferiority, one_sided_p
from ..measure.power import items_for_margin
from ..measure.statistics import mean_interval, proportion_interval
from .arms import FULL, plain
from .runner import Measured, differences
from .suite import Item, Suite

RANDOM = "random_pages"


def size_said_before(suite: Suite, items: int) -> str:
    """One sentence on how many items the question needs."""
    metric = suite.main
    needed = items_for_margin(suite.margin, suite.deviation)
    unit = f"{suite.margin * metric.scale:g} of {metric.title}"
    return (
        f"{items} items; to show that a flow loses less than {unit}, about {needed} are needed "
        f"(80 % power, at a spread of {suite.deviation * metric.scale:g} an item)"
    )


def summarise(suite: Suite, measured: Measured, controls: list[str]) -> dict:
    """JSON-ready: arms with metrics, difference, verdict, groups and curves; ranked and why not."""
    arms = [_arm(suite, measured, name, controls) for name in measured.outcomes]
    ranked, reason = may_rank(suite, measured)
    flows = [arm for arm in arms if arm["role"] == "flow" and arm["difference"]]
    p_values = [_p_value(suite, measured, arm["name"]) for arm in flows]
    for arm, p, confirmed in zip(flows, p_values, holm(p_values)):
        # Several flows are judged at once: the claim must also stand among the others.
        if arm["verdict"] == NON_INFERIOR and not confirmed:
            arm["verdict"] = "undecided"
        arm["p"] = p
    if not ranked:
        for arm in arms:
            arm["verdict"] = None
    return {"suite": suite.name, "settings": suite.settings, "margin": suite.margin, "metrics": [vars(metric) for metric in suite.metrics],
            "arms": arms, "ranked": ranked, "why_not_ranked": reason, "copied": measured.copied, "stopped": measured.stopped,
            "differing": measured.differing,
            "items": [{"name": item.name, "group": item.group, **({"cluster": item.cluster} if item.cluster else {}), **item.facts} for item in measured.items]}  # fmt: skip


def _clusters(measured: Measured, indices: list[int]) -> list[str]:
    return [measured.items[index].cluster or measured.items[index].name for index in indices]


def _p_value(suite: Suite, measured: Measured, name: str) -> float:
    values, indices = differences(suite, measured.outcomes, name)
    return one_sided_p(values, -suite.margin, _clusters(measured, indices))


def _pass_fail(suite: Suite, measured: Measured, name: str) -> dict | None:
    """Items that full attention passes and the arm does not, and the other way round, with McNemar's p. None where an item is no single
    try, or items are not independent."""
    if not suite.pass_fail or any(item.cluster for item in measured.items):
        return None
    pairs = [
        (bool(full.scores[suite.pass_fail]), bool(arm.scores[suite.pass_fail]))
        for full, arm in zip(measured.outcomes[FULL], measured.outcomes[name])
        if full is not None and arm is not None
    ]
    full, arm = [one for one, _ in pairs], [other for _, other in pairs]
    lost, won = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return {"metric": suite.pass_fail, "lost": lost, "won": won, "p": mcnemar(full, arm)}


def _arm(suite: Suite, measured: Measured, name: str, controls: list[str]) -> dict:
    pairs = [(item, outcome) for item, outcome in zip(measured.items, measured.outcomes[name]) if outcome is not None]
    outcomes = [outcome for _, outcome in pairs]
    role = FULL if name == FULL else "control" if plain(name) in controls else "flow"
    row: dict = {"name": name, "role": role, "items": len(outcomes), "difference": None, "verdict": None, "pass_fail": None,
                 "metrics": {metric.name: _metric(suite, metric.name, outcomes) for metric in suite.metrics} if outcomes else {},
                 "attended_tokens": sum(outcome.observed["attended_tokens"] for outcome in outcomes) / max(1, len(outcomes)),
                 "groups": _groups(suite, pairs), "curves": _curves(outcomes),
                 "outcomes": [outcome.scores for outcome in outcomes]}  # fmt: skip
    if name != FULL:
        values, indices = differences(suite, measured.outcomes, name)
        clusters = _clusters(measured, indices)
        row["pass_fail"] = _pass_fail(suite, measured, name)
        if len(set(clusters)) > 1:
            verdict = non_inferiority(values, suite.margin, clusters, worst=suite.worst)
            row["difference"], row["verdict"] = verdict.interval.to_json(), verdict.kind
    return row


def _metric(suite: Suite, name: str, outcomes: list[Outcome]) -> dict:
    """Mean and interval; of what an item passes or fails, Wilson's."""
    values = [float(outcome.scores[name]) for outcome in outcomes]
    if name == suite.pass_fail:
        return proportion_interval(round(sum(values)), len(values)).to_json()
    return mean_interval(values).to_json()


def _groups(suite: Suite, pairs: list[tuple[Item, Outcome]]) -> dict:
    """The main metric's mean by group."""
    values = defaultdict(list)
    for item, outcome in pairs:
        if item.group:
            values[item.group].append(float(outcome.scores[suite.main.name]))
    return {group: sum(found) / len(found) for group, found in values.items()}


def _curves(outcomes: list[Outcome]) -> dict:
    """Means, position by position, of scores that are lists of equal lengths."""
    curves: dict = {}
    for name, value in (outcomes[0].scores if outcomes else {}).items():
        if name.endswith("_curve") or name == "positions":
            columns = list(zip(*(outcome.scores[name] for outcome in outcomes)))
            curves[name] = [sum(column) / len(column) for column in columns]
    return curves


def may_rank(suite: Suite, measured: Measured) -> tuple[bool, str]:
    """(False, why) unless random pages, of every budget that was measured, are measurably worse than full attention."""
    at_random = [name for name in measured.outcomes if plain(name) == RANDOM]
    if not at_random:
        return False, "random pages were not measured, so nothing says that these items need what attention reads"
    for name in at_random:
        values, indices = differences(suite, measured.outcomes, name)
        clusters = _clusters(measured, indices)
        if len(set(clusters)) < 2:
            return False, "one item says nothing about the spread"
        if paired_bootstrap(values, clusters).high >= 0:
            said = "random pages score like full attention here: these items do not need what attention reads, or they are too few"
            return False, said
    return True, ""
