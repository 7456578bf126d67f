"""Suites on a tiny random model: pairs, controls, the ledger's reuse, snapshots, kills, refusals to rank, the words of errors."""

import io
import json
import types
from dataclasses import replace

import numpy as np
import pytest
from reference.random_model import random_llama
from rich.console import Console
from vortex_attention import _core
from vortex_attention.cli import measure, show
from vortex_attention.cli.app import main
from vortex_attention.errors import InternalError, UserError
from vortex_attention.eval import bed as beds
from vortex_attention.eval import conversation
from vortex_attention.eval import summary
from vortex_attention.eval.arms import FULL, Arms
from vortex_attention.eval.compare import FullRow
from vortex_attention.eval.course import SIDE_BY_SIDE, Course
from vortex_attention.eval.generate import COMPARED, Question, answers
from vortex_attention.eval.runner import run_suite
from vortex_attention.eval.score import log_softmax
from vortex_attention.eval.snapshots import Snapshots
from vortex_attention.eval.suite import Item, Metric, Suite
from vortex_attention.ledger import Ledger, Outcome
from vortex_attention.ledger.export import table
from vortex_attention.measure.decide import mcnemar, one_sided_p
from vortex_attention.measure.statistics import proportion_interval
from vortex_attention.models import load_model

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048)


@pytest.fixture(autouse=True)
def own_text_and_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "natural_text", lambda: TEXT)
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))


def wanted(model, suite="text", **changes):
    options = {"items": 3, "length": 500, "steps": 24} if suite == "text" else {}
    values = dict(
        suite=suite,
        flows=("centroid", "quest"),
        model=str(model),
        overrides={"budget": "6"},
        threads=2,
        options=options,
    )
    return measure.Wanted(**(values | changes))


def quiet(*_):
    pass


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


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


def greedy_alone(bench, base, flow, last, steps):
    sequence = bench.fork(base, flow)
    out = bench.greedy([sequence], [last], steps)
    bench.release(sequence)
    return list(out)


@pytest.mark.parametrize("ahead", [1, 6])
@pytest.mark.parametrize("steps", [COMPARED - 8, COMPARED, COMPARED + 20])
def test_answers_are_what_greedy_decoding_gives(model, steps, ahead):
    """Of three questions side by side, with answers of different length; ahead: steps at once, as on a device."""
    bed = beds.Bed(
        str(model), beds.load_flows(["centroid@5", "centroid@64", "quest@5", "random_pages@4"], {}, ()), threads=2
    )
    random = np.random.default_rng(1)
    items = [
        Item(str(tokens), tuple(int(t) for t in random.integers(0, bed.loaded.config.vocabulary, tokens)), steps - less)
        for tokens, less in ((400, 0), (260, 0), (331, 7))
    ]
    arms = bed.prepare(items, together=3, lanes=2 * 5 * 3)
    arms.ahead, before = ahead, bed.bench.free_pages
    bases = [bed.bench.prefill(list(item.prompt[:-1])) for item in items]
    questions = [Question(base, item.prompt[-1], item.steps) for base, item in zip(bases, items)]
    expected = [
        {name: greedy_alone(bed.bench, base, flow, item.prompt[-1], item.steps) for name, flow in arms.flows.items()}
        for base, item in zip(bases, items)
    ]
    assert len({tuple(tokens) for tokens in expected[0].values()}) > 2
    for item, found, right in zip(items, answers(arms, list(arms.flows), questions, frozenset()), expected):
        for name, answer in found.items():
            assert (answer.tokens, answer.finished) == (right[name], "length")
            assert len(answer.kl) == min(item.steps, COMPARED) and answer.agreement[0] in (True, False)
            assert answer.counts.steps == min(item.steps, COMPARED)
    for stop in (expected[0][FULL][9], expected[1][FULL][-1]):
        for item, found, right in zip(items, answers(arms, list(arms.flows), questions, frozenset([stop])), expected):
            for name, answer in found.items():
                cut = right[name].index(stop) if stop in right[name] else item.steps
                finished = "stop" if cut < item.steps else "length"
                assert (answer.tokens, answer.finished) == (right[name][:cut], finished), name
    for base in bases:
        bed.bench.release(base)
    bed.bench.check_integrity()
    assert bed.bench.free_pages == before


def test_a_kl_is_right_whatever_the_logits():
    random = np.random.default_rng(3)
    for spread in (1e-3, 0.1, 1.0, 4.0):
        logits = (random.standard_normal((2, 30_000)) * 4 + random.choice([0, 25])).astype(np.float32)
        logits[1] = logits[0] + spread * random.standard_normal(30_000).astype(np.float32)
        logits[0, 7] += random.choice([0, 15])
        full, arm = log_softmax(logits)
        row, right = FullRow(logits[0]), float((np.exp(full) * (full - arm)).sum())
        assert row.divergence(logits[1]) == pytest.approx(right, abs=1e-5 * (1 + right))
        assert row.likeliest == full.argmax()
    logits[1, 4] = np.nan
    with pytest.raises(InternalError, match="finite logits where full attention's are"):
        row.divergence(logits[1])
    logits[0, 5] = -np.inf
    with pytest.raises(UserError, match="finite logits from full attention"):
        FullRow(logits[0])


RULER = {"items": 2, "length": 1500, "tasks": ("niah_single_1", "fwe", "qa_1")}


def ruler_outcomes(result):
    return {arm["name"]: arm["outcomes"] for arm in result["arms"]}


def test_items_side_by_side_give_what_they_give_alone(model, small_sources, tmp_path):
    alone = measure.accuracy(wanted(model, "ruler", options=RULER), quiet)
    assert ruler_outcomes(measure.accuracy(wanted(model, "ruler", options=RULER, together=4), quiet)) == ruler_outcomes(
        alone
    )
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        measure.accuracy(wanted(model, "ruler", options=RULER, flows=("centroid",), together=3), quiet, ledger)
        result = measure.accuracy(wanted(model, "ruler", options=RULER, together=6), quiet, ledger)
        assert result["copied"] == 6 * 5  # full, centroid and the controls are not measured again
        assert ruler_outcomes(result) == ruler_outcomes(alone)


def test_questions_are_drawn_once(model, small_sources, monkeypatch):
    first = measure.accuracy(wanted(model, "ruler", options=RULER), quiet)
    monkeypatch.setattr("vortex_attention.eval.ruler.table.task", None)  # the sources are not asked again
    again = measure.accuracy(wanted(model, "ruler", options=RULER), quiet)
    fewer = measure.accuracy(wanted(model, "ruler", options=RULER | {"items": 1}), quiet)
    assert ruler_outcomes(again) == ruler_outcomes(first)
    assert fewer["items"] == first["items"][::2]


def test_drift_compares_own_kv_with_full_attentions(model, ledger):
    result = measure.accuracy(wanted(model, "drift", options={"items": 2, "length": 300, "every": 8}), quiet, ledger)
    arms = {arm["name"]: arm for arm in result["arms"]}
    assert arms["full"]["metrics"]["kl"]["center"] == arms["full"]["metrics"]["kl_dense"]["center"] == 0.0
    assert (
        arms["random_pages"]["metrics"]["kl"]["center"] > 0
        and arms["random_pages"]["metrics"]["kl_dense"]["center"] > 0
    )
    assert arms["centroid"]["outcomes"][0]["kl_curve"] != arms["centroid"]["outcomes"][0]["kl_dense_curve"]
    assert len(arms["centroid"]["curves"]["kl_curve"]) == 16
    again = measure.accuracy(
        wanted(model, "drift", options={"items": 2, "length": 300, "every": 8}, fresh=True), quiet, ledger
    )
    assert again["arms"][1]["outcomes"] == result["arms"][1]["outcomes"]  # the text, kept, is not written again


def test_drift_loses_at_most_the_arms_under_way(model, tmp_path, monkeypatch):
    options = {"items": 1, "length": 400, "every": 8}
    whole = measure.accuracy(wanted(model, "drift", options=options), quiet)
    follow, followed, told = Course.follow, [], []

    def killed(course, names):
        followed.append(names)
        if len(followed) == 2:
            raise KeyboardInterrupt
        yield from follow(course, names)

    monkeypatch.setattr(Course, "follow", killed)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(KeyboardInterrupt):
            measure.accuracy(wanted(model, "drift", options=options), lambda *line: told.append(line), ledger)
        assert {row["arm"] for row in table(ledger, "outcomes")} == {FULL, *followed[0]}
        assert len(followed[0]) == SIDE_BY_SIDE
        steps = [done for what, done, _ in told if what == "drift: steps"]
        assert steps == sorted(steps) and len(steps) > 30
        monkeypatch.setattr(Course, "follow", follow)
        result = measure.accuracy(wanted(model, "drift", options=options), quiet, ledger)
    assert result["copied"] == 4 and result["differing"] == 0
    assert [arm["outcomes"] for arm in result["arms"]] == [arm["outcomes"] for arm in whole["arms"]]


def test_drift_is_the_same_side_by_side_and_arm_by_arm(model, monkeypatch):
    options = {"items": 3, "length": 300, "every": 8}
    alone = measure.accuracy(wanted(model, "drift", options=options), quiet)
    for ahead in (1, 16):  # 16: as on a device, arms after full attention and fed without the host
        monkeypatch.setattr(beds, "ahead_on", lambda device, ahead=ahead: ahead)
        for fresh_text in (True, False):
            if fresh_text:
                monkeypatch.setenv("VORTEX_CACHE", str(measure.cache_folder(f"other-{ahead}")))
            together = measure.accuracy(wanted(model, "drift", options=options, together=3), quiet)
            assert ruler_outcomes(together) == ruler_outcomes(alone)


def test_tokens_are_drawn_by_their_shares():
    shares = np.array([0.3, 0.2, 0.00002, 0.4, 0.1], dtype=np.float32)
    logits = np.log(shares) * conversation.TEMPERATURE  # shares at the temperature
    drawn = [conversation.draw(logits, at) for at in (0.0, 0.29, 0.31, 0.49, 0.51, 0.89, 0.91, 0.999999)]
    assert drawn == [0, 0, 1, 1, 3, 3, 4, 4]  # 2 has too small a share
    logits[1] = np.nan
    with pytest.raises(UserError, match="finite logits from full attention"):
        conversation.draw(logits, 0.5)


STOP, FRAME = 7, 900


def turn(request):
    """Tokens of a request: of a length of its own, with the stop token in front."""
    return [STOP, *(FRAME + ord(letter) for letter in request)]


def spoken(writer, count, sure=()):
    """What a writer says to logits that follow from what it said last; sure: steps at which a token has all the mass."""
    said = []
    for step in range(count):
        logits = np.random.default_rng([len(said), *said[-2:]]).standard_normal(100).astype(np.float32)
        logits[STOP] = 30.0 if step in sure else -30.0
        said.append(writer.next(logits))
    return said


def test_a_conversation_goes_on_with_the_next_request():
    asked = conversation.Requests(3, 1)
    first, second = turn(asked.next()), turn(asked.next())
    said = spoken(conversation.Writer(3, 1, turn, frozenset([STOP])), 200, sure={40})
    assert STOP not in said[:40] and said[40 : 40 + len(second)] == second and first not in (second,)
    assert STOP not in said[40 + len(second) :]
    back = [text for text in (asked.next() for _ in range(200)) if "Go back" in text or "Compare" in text]
    assert 30 < len(back) < 110
    assert (
        conversation.Requests(3, 1).next() != conversation.Requests(3, 2).next() != conversation.Requests(4, 2).next()
    )


def test_an_answer_ends_when_it_turns_in_circles_or_is_long(monkeypatch):
    writer = conversation.Writer(1, 0, turn, frozenset([STOP]))
    said = []
    for step in range(60):
        logits = np.full(100, -30.0, dtype=np.float32)
        logits[20 + step % 5] = 30.0
        said.append(writer.next(logits))
    assert 29 <= said.index(STOP) <= 31  # 24 tokens that were there 5 before
    circles = conversation.turns_in_circles
    assert not circles(list(range(500))) and circles([*range(24), 5, 6, *range(24)])
    assert not circles([*range(24), *range(100, 520), *range(24)])  # too long ago
    monkeypatch.setattr(conversation, "MOST", 50)
    assert spoken(conversation.Writer(1, 0, turn, frozenset([STOP])), 60).index(STOP) == 50


def test_a_conversation_is_taken_up_wherever_it_was_cut():
    def writer():
        return conversation.Writer(5, 2, turn, frozenset([STOP]))

    count, sure = 420, {60, 61, 200, 330}
    whole = spoken(writer(), count, sure)
    for cut in (0, 1, 59, 60, 61, 75, 130, 201, 202, 215, 300, 419):
        usable = writer().usable(whole[:cut])
        assert usable <= cut and (usable == cut or whole[usable] == STOP)
        for begin in (usable, usable // 2):
            one = writer()
            one.take_up(whole[:usable], begin)
            rest = []
            for step in range(begin, count):
                said = [*whole[:begin], *rest]
                logits = np.random.default_rng([len(said), *said[-2:]]).standard_normal(100).astype(np.float32)
                logits[STOP] = 30.0 if step in sure else -30.0
                rest.append(one.next(logits))
            assert [*whole[:begin], *rest] == whole


def test_the_next_turn_follows_the_chat_frame(model):
    loaded = load_model(model)
    if loaded.chat_template is None:
        pytest.skip("the tiny model has no chat template")
    said = loaded.chat("a", "") + "b" + loaded.next_turn("c")
    assert said == loaded.chat_template.render(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    )


def test_a_template_that_drops_answers_is_refused(model):
    drops = types.SimpleNamespace(render=lambda turns: turns[-1]["content"])
    loaded = replace(load_model(model), chat_template=drops)
    with pytest.raises(UserError, match="a chat template that keeps an answer's text"):
        loaded.next_turn("c")


def test_a_continuation_goes_on_from_what_is_kept(model, monkeypatch, tmp_path):
    def drift(length):
        return measure.accuracy(
            wanted(model, "drift", options={"items": 2, "length": length, "every": 8}, together=2), quiet
        )

    whole = drift(400)
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "other"))
    part = drift(300)
    assert ruler_outcomes(part) != ruler_outcomes(whole)
    assert ruler_outcomes(drift(400)) == ruler_outcomes(whole)


def test_a_needle_is_the_item_of_the_run_command(model):
    result = measure.accuracy(wanted(model, "needle", options={"items": 2, "length": 800}), quiet)
    assert {"log_probability", "exact", "kl"} <= set(result["arms"][0]["metrics"])
    assert [item["depth"] for item in result["items"]] == [0.25, 0.75]


# Snapshots


@pytest.fixture
def bench(model):
    bed = beds.Bed(str(model), beds.load_flows(["centroid@5"], {}, ()), threads=2)
    bed.prepare([Item("a", tuple(range(300)), 4)])
    return bed.bench


TOKENS = [int(t) for t in np.random.default_rng(2).integers(0, 256, 200)]


def kept(bench, snapshots, tokens=TOKENS, numerics="1"):
    sequence = snapshots.sequence(bench, tokens, model_sha256="m", numerics=numerics)
    saved = bench.save(sequence)
    bench.release(sequence)
    return saved


def test_an_item_is_prefilled_once(bench, tmp_path):
    said = []
    snapshots = Snapshots(tmp_path / "s", 1 << 30, said.append)
    first = kept(bench, snapshots)
    assert kept(bench, snapshots) == first
    assert (snapshots.made, snapshots.taken, said) == (1, 1, [])
    kept(bench, snapshots, TOKENS[:-1])
    kept(bench, snapshots, numerics="2")
    assert (snapshots.made, snapshots.taken) == (3, 1)
    bench.check_integrity()


def test_damaged_snapshots_are_noticed_and_made_again(bench, tmp_path):
    said = []
    snapshots = Snapshots(tmp_path / "s", 1 << 30, said.append)
    first = kept(bench, snapshots)
    (path,) = (tmp_path / "s").glob("*.kv")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-7] ^= 1
    for damage in (
        bytes(flipped),
        whole[:-1],
        whole[: len(whole) // 2],
        b"",
        b"vortex-kv 1\n{}\n",
        b"vortex-kv 1\nnot json\n",
        b"\x00" * 64,
    ):
        path.write_bytes(damage)
        assert kept(bench, snapshots) == first
        assert path.read_bytes() == whole
    assert snapshots.damaged == 7 and said[0] == f"the snapshot {path} is damaged; it is made again"


def test_the_oldest_snapshots_make_room(bench, tmp_path):
    size = len(kept(bench, Snapshots(tmp_path / "one", 1 << 30, print)))
    snapshots = Snapshots(tmp_path / "s", int(2.5 * size), print)
    for number in range(4):
        kept(bench, snapshots, [number + 1, *TOKENS[1:]])
    assert len(list((tmp_path / "s").glob("*.kv"))) == 2
    kept(bench, snapshots, [4, *TOKENS[1:]])
    assert snapshots.taken == 1
    none = Snapshots(tmp_path / "n", size // 2, print)
    kept(bench, none)
    assert none.made == 0


def test_a_folder_that_cannot_be_written_costs_the_snapshot_not_the_run(bench, tmp_path):
    (tmp_path / "s").write_text("a file")
    said = []
    snapshots = Snapshots(tmp_path / "s", 1 << 30, said.append)
    assert kept(bench, snapshots) and kept(bench, snapshots)
    assert len(said) == 1 and said[0].startswith("no snapshot is kept in ")


# Words


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--suite", "neddle"], 'a suite among needle, ruler, text, drift, reasoning, screen, all, or a .jsonl file of prompts and answers; "neddle"; did you mean "needle"?'),
        (["--suite", "needle", "--tasks", "vt"], "options of the suite needle: --items, --length, --seed; --tasks; leave it out"),
        (["--suite", "text", "--length", "4096"], "at most 2048 tokens, the context of the model; 4225 tokens for a stretch of text; lower --length"),
        (["--suite", "text", "--steps", "3"], "at least 8 steps; 3; raise --steps"),
        (["--suite", "drift", "--length", "500", "--every", "64"], "a distance of 1 to 31 for 500 tokens; --every 64; lower it"),
        (["--suite", "drift", "--length", "10"], "[drift] at least 16 tokens; --length 10; raise it"),
        (["--suite", "drift", "--length", "130", "--every", "8"], "a continuation of at least 128 tokens, 16 positions that are compared; "),
        (["quest@x"], 'NAME@BUDGET with a whole number of pages; "quest@x"; for example quest@64'),
        (["quest", "quest"], "flows with different names, none called full; quest a second time; rename one"),
    ],
)  # fmt: skip
def test_bad_options_end_with_one_clear_line(model, capsys, arguments, words):
    assert main(["eval", *arguments, "--model", str(model), "--ledger", "none"]) == 2
    assert words in capsys.readouterr().err


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


def test_all_suites_run_one_after_the_other_and_go_on_after_a_kill(model, ledger, monkeypatch, capsys, tmp_path):
    from vortex_attention.cli import all_suites

    parts = (
        all_suites.Part("screen", 1, {"items": 2, "length": 400, "positions": 4}),
        all_suites.Part("text", 2, {"items": 3, "length": 500, "steps": 16}),
        all_suites.Part("needle", 3, {"items": 2, "length": 800}),
        all_suites.Part("drift", 3, {"items": 1, "length": 300, "every": 8}),
    )

    class Killed(BaseException):
        pass

    def kill(what, done, of):
        if what == "text: items" and done == 2:
            raise Killed

    with pytest.raises(Killed):
        all_suites.all_suites(wanted(model, "all", options={}), kill, ledger, parts)
    said = []
    result = all_suites.all_suites(wanted(model, "all", options={}), lambda *line: said.append(line), ledger, parts)
    assert [one["suite"] for one in result["suites"]] == ["screen", "text", "needle", "drift"] and result[
        "left_out"
    ] == []
    assert [one["copied"] for one in result["suites"]] == [
        2 * 6,
        2 * 6,
        0,
        0,
    ]  # what was killed lost the item under way
    told = [line[1] for line in said if line[0] == "all suites"]
    assert told == sorted(told) and (told[0], told[-1]) == (0, 100)
    monkeypatch.setattr(all_suites, "PARTS", parts)
    monkeypatch.setattr(all_suites.all_suites, "__defaults__", (parts,))
    arguments = [
        "eval",
        "centroid",
        "--suite",
        "all",
        "--budget",
        "6",
        "--model",
        str(model),
        "--threads",
        "2",
        "--items",
        "2",
    ]
    assert main([*arguments, "--length", "300", "--ledger", str(tmp_path / "l.sqlite")]) == 0
    out = capsys.readouterr().out
    assert "suites in" in out and "needle: 2 items" in out
    assert main([*arguments, "--tries", "3", "--ledger", "none"]) == 2
    assert "[eval] options that a suite of all knows; --tries; leave it out" in capsys.readouterr().err


def test_what_the_model_cannot_do_is_named():
    from vortex_attention.cli.all_suites import Part, Whole, beyond

    arms = [{"role": "flow", "groups": {"vt": 0.1}}, {"role": "full", "groups": {"vt": 0.2, "qa_1": 0.5, "cwe": 0.0}}]
    assert beyond([{"suite": "ruler", "arms": arms}, {"suite": "text", "arms": []}]) == [
        {"task": "vt", "score": 0.2}, {"task": "cwe", "score": 0.0}]  # fmt: skip
    said = []
    parts = (Part("a", 1), Part("b", 3))
    whole = Whole(parts, lambda *line: said.append(line))
    whole.of_part(parts[0])("a: items", 1, 2)
    whole.finish(parts[0])
    assert said == [("all suites", 0, 100), ("a: items", 1, 2), ("all suites", 12, 100), ("all suites", 25, 100)]
    advance = whole.of_part(parts[1])
    advance("b: items", 0, 1)
    advance("b: steps", 10, 40)
    assert said[-1] == ("all suites", 44, 100)
    advance = whole.of_part(parts[1])
    advance("recording traces", 1, 3)
    assert said[-1] == ("all suites", 48, 100)  # 25 + 75 · 0.9 / 3
    advance("b: items", 0, 3)
    assert said[-1] == ("all suites", 92, 100)


def test_a_log_says_how_long_it_takes_yet(monkeypatch, capsys):
    from vortex_attention.cli import show

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
