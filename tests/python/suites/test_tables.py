"""Tables of a suite: verdicts, refusals to rank, what is said before and after a run; the log of a long one."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from vortex_attention import _core
from vortex_attention.cli import show
from vortex_attention.cli.app import main
from vortex_attention.errors import InternalError, UserError
from vortex_attention.eval import bed as beds
from vortex_attention.eval import summary
from vortex_attention.eval.arms import FULL, Arms
from vortex_attention.eval.runner import run_suite
from vortex_attention.eval.suite import Item, Metric, Suite
from vortex_attention.ledger import Outcome
from vortex_attention.measure.decide import mcnemar, one_sided_p
from vortex_attention.measure.statistics import proportion_interval


class Fixed(Suite):
    """A suite whose outcomes are given: what the summary makes of them."""

    name, options, settings = "fixed", (), {}
    metrics = (Metric("score", "score"),)
    margin, deviation, worst = 0.1, 0.3, 1.0

    def __init__(self, scores):
        self.scores = scores

    def items(self):
        return [Item(str(i), (1, 2), 1) for i in range(len(self.scores[FULL]))]

    def measure(self, arms, item, names):
        return {
            name: Outcome({"score": float(self.scores[name][int(item.name)])}, {"attended_tokens": 1.0})
            for name in names
        }


class NoBench:
    max_batch = 8

    def record_pages(self, on): ...

    def release(self, sequence): ...


def measured_of(scores, **changes):
    suite = Fixed(scores)
    arms = Arms(NoBench(), {name: 0 for name in scores if name != FULL}, 1)
    measured = run_suite(suite, suite.items(), arms, lambda tokens: 0, programs={name: None for name in scores if name != FULL},
                         controls=("random_pages",), **changes)  # fmt: skip
    return suite, measured


RNG = np.random.default_rng(5)
NOISE = RNG.normal(0, 0.05, (4, 60))


def test_a_suite_on_which_random_pages_do_as_well_refuses_to_rank():
    suite, measured = measured_of({FULL: 1 + NOISE[0], "good": 1 + NOISE[1], "random_pages": 1 + NOISE[2]})
    result = summary.summarise(suite, measured, ["random_pages"])
    assert not result["ranked"] and result["why_not_ranked"].startswith("random pages score like full attention here")
    assert [arm["verdict"] for arm in result["arms"]] == [None, None, None]


def test_verdicts_and_holm():
    suite, measured = measured_of(
        {FULL: 1 + NOISE[0], "good": 1 + NOISE[1], "bad": 0.7 + NOISE[2], "random_pages": 0.2 + NOISE[3]}
    )
    result = summary.summarise(suite, measured, ["random_pages"])
    assert result["ranked"]
    assert [arm["verdict"] for arm in result["arms"]] == [None, "non-inferior", "inferior", "inferior"]


def test_a_control_is_one_with_any_budget():
    scores = {
        FULL: 1 + NOISE[0],
        "good": 1 + NOISE[1],
        "random_pages@32": 0.2 + NOISE[2],
        "random_pages@64": 0.3 + NOISE[3],
    }
    suite, measured = measured_of(scores)
    result = summary.summarise(suite, measured, ["random_pages"])
    assert result["ranked"] and [arm["role"] for arm in result["arms"]] == ["full", "flow", "control", "control"]
    suite, measured = measured_of(scores | {"random_pages@64": 1 + NOISE[3]})
    assert not summary.summarise(suite, measured, ["random_pages"])["ranked"]
    loaded = beds.load_flows(["centroid@32", "random_pages@32"], {})
    assert list(loaded) == ["centroid@32", "random_pages@32", "oracle", "recent_only"]


def test_items_that_only_one_arm_passes_are_counted_and_tested():
    passes = np.array([1.0] * 12 + [0.0] * 4)
    bad = np.array([0.0] * 8 + [1.0] * 5 + [0.0] * 3)  # 8 lost, 1 won
    suite, measured = measured_of({FULL: passes, "bad": bad, "random_pages": np.zeros(16)})
    assert (
        summary.summarise(suite, measured, ["random_pages"])["arms"][1]["pass_fail"] is None
    )  # not said to be passed or failed
    suite.pass_fail = "score"
    arms = summary.summarise(suite, measured, ["random_pages"])["arms"]
    assert arms[0]["pass_fail"] is None
    assert arms[1]["pass_fail"] == {"metric": "score", "lost": 8, "won": 1, "p": mcnemar(passes > 0, bad > 0)}
    assert arms[1]["pass_fail"]["p"] == pytest.approx(10 * 2 / 2**9)
    for arm, passed in zip(arms, (12, 5, 0)):  # Wilson's interval stays within 0 and 1
        assert (
            arm["metrics"]["score"] == proportion_interval(passed, 16).to_json() and arm["metrics"]["score"]["low"] >= 0
        )
    result = {"suite": "fixed", "items": measured.items, "metrics": [vars(suite.main)], "arms": arms, "stopped": {}}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(show.suite_table(result))
    said = console.export_text()
    assert "lost / won beside full (p)" in said and "8 / 1 (0.039)" in said
    measured.items = [replace(item, cluster="one document") for item in measured.items]
    measured.items[0] = replace(measured.items[0], cluster="another")
    assert summary.summarise(suite, measured, ["random_pages"])["arms"][1]["pass_fail"] is None


def test_a_claim_beside_others_rests_on_clusters_too():
    """Ten questions asked ten times each say no more than ten questions."""
    ten = 0.01 + np.array([0.2, -0.25, 0.3, -0.2, 0.25, -0.3, 0.2, -0.2, 0.3, -0.25])
    scores = {FULL: np.zeros(100), "arm": np.repeat(ten, 10), "random_pages": np.full(100, -1.0)}
    suite, measured = measured_of(scores)
    alone = summary.summarise(suite, measured, ["random_pages"])["arms"][1]
    measured.items = [replace(item, cluster=str(index // 10)) for index, item in enumerate(measured.items)]
    together = summary.summarise(suite, measured, ["random_pages"])["arms"][1]
    assert (
        alone["p"] < 0.001
        and together["p"] == pytest.approx(one_sided_p(list(ten), -suite.margin))
        and together["p"] > 0.05
    )


def test_losers_may_be_stopped_and_are_said_to_be():
    scores = {FULL: 1 + NOISE[0], "good": 1 + NOISE[1], "bad": 0.3 + NOISE[2], "random_pages": 0.2 + NOISE[3]}
    suite, measured = measured_of(scores, stop_losers=True)
    assert measured.stopped == {"bad": 8}
    assert measured.outcomes["bad"][8:] == [None] * 52 and None not in measured.outcomes["random_pages"]
    assert summary.summarise(suite, measured, ["random_pages"])["arms"][2]["items"] == 8


def test_how_many_items_are_needed_is_said_first():
    assert summary.size_said_before(Fixed({FULL: []}), 48).startswith(
        "48 items; to show that a flow loses less than 0.1 of score, about 73 are needed"
    )


def test_logits_that_are_no_numbers_end_the_run():
    class Broken(NoBench):
        def fork(self, base, flow):
            return 0

        def decode(self, sequences, tokens):
            return np.full((len(sequences), 4), np.nan, dtype=np.float32)

    arms = Arms(Broken(), {"centroid": 0}, 1)
    with (
        pytest.raises(UserError, match=r"\[eval\] finite logits from full attention; some are not"),
        arms.fork([FULL]) as branches,
    ):
        branches.decode([1])
    with (
        pytest.raises(InternalError, match=r"\[eval\] finite logits where full attention's are; some are not"),
        arms.fork(["centroid"]) as branches,
    ):
        branches.decode([1])


def test_the_tables_say_what_was_found(model, capsys):
    assert main(["eval", "centroid@6", "--suite", "text", "--items", "3", "--length", "500", "--steps", "16", "--model", str(model), "--threads", "2",
                 "--ledger", "none"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "text: 3 items, paired with full attention" in out and "centroid@6" in out and "random_pages" in out
    assert main(["eval", "centroid@6", "--suite", "text", "--items", "2", "--length", "500", "--steps", "16", "--model", str(model), "--json",
                 "--ledger", "none"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["schema"] == 2
    assert _core.nearest_name("x", []) == ""


# All suites


def test_a_log_says_how_long_it_takes_yet(monkeypatch, capsys):
    now = iter([0.0, 1.0, 3.0, 101.0, 201.0])
    monkeypatch.setattr(show.time, "monotonic", lambda: next(now))
    reporter = show.Reporter()
    for done in (0, 1, 10, 20):
        reporter("items", done, 20)
    assert capsys.readouterr().err.splitlines() == [
        "[   1.0 s] items 0/20",
        "[   3.0 s] items 1/20",
        "[ 101.0 s] items 10/20, about 2 min left",
        "[ 201.0 s] items 20/20",
    ]


def test_a_log_tells_of_many_things_now_and_then(monkeypatch, capsys):
    now = iter([0.0, 1.0, 2.0, 12.0, 12.5, 13.0])
    monkeypatch.setattr(show.time, "monotonic", lambda: next(now))
    reporter = show.Reporter()
    for done in (0, 10, 120, 130, 900):
        reporter("steps", done, 900)
    assert capsys.readouterr().err.splitlines() == [
        "[   1.0 s] steps 0/900",
        "[  12.0 s] steps 120/900, about 72 s left",
        "[  13.0 s] steps 900/900",
    ]


def test_a_log_knows_what_was_there_before_and_when_another_begins(monkeypatch, capsys):
    now = iter([0.0, 0.0, 100.0, 200.0, 300.0, 400.0])
    monkeypatch.setattr(show.time, "monotonic", lambda: next(now))
    reporter = show.Reporter()
    for done, of in ((50, 60), (55, 60), (0, 60), (1, 30), (2, 30)):
        reporter("steps", done, of)
    assert capsys.readouterr().err.splitlines() == [
        "[   0.0 s] steps 50/60",
        "[ 100.0 s] steps 55/60, about 2 min left",
        "[ 200.0 s] steps 0/60",
        "[ 300.0 s] steps 1/30",
        "[ 400.0 s] steps 2/30, about 47 min left",
    ]
