"""Suites through the ledger: pairs, reuse, kills, questions side by side, logits that are no numbers."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from small_suites import RULER, outcomes_of, quiet, wanted
from vortex_attention.cli import measure
from vortex_attention.eval.arms import Arms
from vortex_attention.flows import load
from vortex_attention.ledger import Ledger, Outcome
from vortex_attention.ledger.export import table


def test_candidates_are_those_of_the_engine():
    """Of any number of sinks and recent pages, with and without an open page."""
    bench = SimpleNamespace(record_pages=lambda on: None)
    for sinks, recent in itertools.product((0, 1, 3), (0, 1, 2)):
        program = load("centroid", sinks=str(sinks), recent=str(recent)).program
        arms = Arms(bench, {"a": 0}, rows=2, configs={"a": program.config})
        for tokens in (16, 33, 64, 100):
            found = arms.candidates("a", tokens).sum()
            assert found == program.rows(tokens)["candidates"], (sinks, recent, tokens)


def test_every_arm_is_paired_and_the_controls_are_there(model, ledger):
    result = measure.accuracy(wanted(model), quiet, ledger)
    arms = {arm["name"]: arm for arm in result["arms"]}
    assert list(arms) == ["full", "centroid", "quest", "oracle", "random_pages", "recent_only"]
    assert [arm["role"] for arm in result["arms"]] == ["full", "flow", "flow", "control", "control", "control"]
    assert arms["full"]["metrics"]["kl"]["center"] == 0.0 and arms["full"]["difference"] is None
    assert arms["full"]["attended_tokens"] == pytest.approx(500 + 12.5)
    for name in ("centroid", "quest", "oracle", "random_pages", "recent_only"):
        assert arms[name]["metrics"]["kl"]["center"] > 0 and arms[name]["attended_tokens"] <= 6 * 16
        assert len(arms[name]["curves"]["kl_curve"]) == 8
        losses = [
            ours["log_probability"] - full["log_probability"]
            for ours, full in zip(arms[name]["outcomes"], arms["full"]["outcomes"])
        ]
        assert arms[name]["difference"]["center"] == pytest.approx(np.mean(losses))
    assert len(table(ledger, "outcomes")) == 3 * 6
    assert {row["observed"]["steps"] for row in table(ledger, "outcomes")} == {24}


def test_the_same_seed_gives_the_same_figures_twice(model, ledger):
    first = measure.accuracy(wanted(model), quiet, ledger)
    again = measure.accuracy(wanted(model, fresh=True, snapshots=0.0), quiet, ledger)
    assert again["copied"] == 0
    for one, other in zip(first["arms"], again["arms"]):
        assert one["outcomes"] == other["outcomes"]


def test_what_the_ledger_knows_is_not_measured_again(model, ledger):
    first = measure.accuracy(wanted(model), quiet, ledger)
    calls = []
    more = wanted(model, flows=("centroid", "quest", "mean_deviation"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Arms,
            "fork",
            lambda self, names, base=None, fork=Arms.fork: (calls.append(list(names)), fork(self, names, base))[1],
        )
        result = measure.accuracy(more, quiet, ledger)
    assert sorted({name for names in calls for name in names}) == ["full", "mean_deviation"]
    arms = {arm["name"]: arm for arm in result["arms"]}
    for arm in first["arms"]:
        assert arms[arm["name"]]["outcomes"] == arm["outcomes"]
    assert result["copied"] == 3 * 6
    reused = [row for row in table(ledger, "outcomes") if row["reused"]]
    assert len(reused) == 3 * 6


def test_a_killed_run_goes_on_where_it_was(model, ledger):
    class Killed(BaseException):
        pass

    seen = []

    def kill_after_two(what, done, of):
        if what == "text: items":
            seen.append(done)
            if done == 2:
                raise Killed

    with pytest.raises(Killed):
        measure.accuracy(wanted(model), kill_after_two, ledger)
    assert len(table(ledger, "outcomes")) == 2 * 6
    result = measure.accuracy(wanted(model), quiet, ledger)
    assert result["copied"] == 2 * 6
    assert (
        result["arms"][1]["outcomes"]
        == measure.accuracy(wanted(model, fresh=True), quiet, ledger)["arms"][1]["outcomes"]
    )


def test_a_ledger_of_other_bits_is_not_mixed_with_ours(model, ledger):
    """Outcomes recorded under our numerics that are not what full attention gives now."""
    measure.accuracy(wanted(model), quiet, ledger)
    with pytest.MonkeyPatch.context() as patch:

        def changed(self, key, outcomes=Ledger.outcomes):
            return {
                item: (arm, Outcome(outcome.scores | {"log_probability": -1.0}, outcome.observed))
                for item, (arm, outcome) in outcomes(self, key).items()
            }

        patch.setattr(Ledger, "outcomes", changed)
        result = measure.accuracy(wanted(model, flows=("centroid", "quest", "mean_deviation")), quiet, ledger)
    assert result["differing"] == 3 and result["copied"] == 0
    assert result["arms"][0]["outcomes"][0]["log_probability"] != -1.0


def test_a_budget_that_covers_everything_is_full_attention(model):
    result = measure.accuracy(wanted(model, flows=("centroid@64",), overrides={}, controls=False), quiet)
    full, arm = result["arms"]
    assert arm["outcomes"] == full["outcomes"] and arm["attended_tokens"] == full["attended_tokens"]


def test_without_random_pages_nothing_is_ranked(model):
    result = measure.accuracy(wanted(model, controls=False), quiet)
    assert not result["ranked"] and "random pages were not measured" in result["why_not_ranked"]
    assert all(arm["verdict"] is None for arm in result["arms"])


def test_items_side_by_side_give_what_they_give_alone(model, small_sources, tmp_path):
    alone = measure.accuracy(wanted(model, "ruler", options=RULER), quiet)
    assert outcomes_of(measure.accuracy(wanted(model, "ruler", options=RULER, together=4), quiet)) == outcomes_of(alone)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        measure.accuracy(wanted(model, "ruler", options=RULER, flows=("centroid",), together=3), quiet, ledger)
        result = measure.accuracy(wanted(model, "ruler", options=RULER, together=6), quiet, ledger)
        assert result["copied"] == 6 * 5  # full, centroid and the controls are not measured again
        assert outcomes_of(result) == outcomes_of(alone)


def test_a_needle_is_the_item_of_the_run_command(model):
    result = measure.accuracy(wanted(model, "needle", options={"items": 2, "length": 800}), quiet)
    assert {"log_probability", "exact", "kl"} <= set(result["arms"][0]["metrics"])
    assert [item["depth"] for item in result["items"]] == [0.25, 0.75]
