"""Drift: own KV beside full attention's, kills, side by side and arm by arm, the conversation that is written."""

import types
from dataclasses import replace

import numpy as np
import pytest
from small_suites import outcomes_of, quiet, wanted
from vortex_attention.cli import measure
from vortex_attention.errors import UserError
from vortex_attention.eval import bed as beds
from vortex_attention.eval import conversation
from vortex_attention.eval.arms import FULL
from vortex_attention.eval.course import SIDE_BY_SIDE, Course
from vortex_attention.ledger import Ledger
from vortex_attention.ledger.export import table
from vortex_attention.models import load_model


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
            assert outcomes_of(together) == outcomes_of(alone)


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
    assert outcomes_of(part) != outcomes_of(whole)
    assert outcomes_of(drift(400)) == outcomes_of(whole)
