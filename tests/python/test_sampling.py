"""How a token is chosen: one list of cases (reference/sampling.json) against a reference in NumPy, choice by choice."""

import json
from pathlib import Path

import numpy as np
import pytest
import vortex_attention as vx
from reference.sampling import distribution, uniform_of
from vortex_attention import _core
from vortex_attention.engine import Sampling
from vortex_attention.engine.sampling import StopStrings

CASES = json.loads((Path(__file__).parent / "reference" / "sampling.json").read_text())


def logits_of(case) -> np.ndarray:
    logits = case["logits"]
    if isinstance(logits, dict):
        values = np.random.default_rng(logits["random"]).normal(0, logits["scale"], logits["size"])
        return (values.round(logits["round"]) if "round" in logits else values).astype(np.float32)
    return np.array([float(x) for x in logits], np.float32)


def settings_of(case) -> dict:
    settings = dict(case["sampling"])
    if "logit_bias" in settings:
        settings["logit_bias"] = {int(token): float(bias) for token, bias in settings["logit_bias"].items()}
    return settings


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_choices_are_the_references(case):
    """At the middle of each token's share of [0, 1), and at its ends, where rounding may choose the neighbour."""
    logits, settings = logits_of(case), settings_of(case)
    history = {name: case.get(name, []) for name in ("prompt", "answer")}
    params = _core.SamplingParams(**settings)
    expected = distribution(logits, settings, **history)
    if expected is None:
        token, _, banned, _ = _core.sample(logits, params, 0.5, **history)
        assert token == -1 and banned == case["name"].startswith("everything banned")
        return
    ends = np.cumsum(expected)
    tokens = np.flatnonzero(expected > 1e-9)
    if "draws" in case:
        chosen = np.random.default_rng(0).choice(len(tokens), case["draws"])
        chosen[:2] = [0, len(tokens) - 1]
        tokens = tokens[np.unique(chosen)]
    middles = [ends[token] - expected[token] / 2 for token in tokens]
    for token, uniform in zip(tokens, middles, strict=True):
        assert _core.sample(logits, params, uniform, **history)[0] == token, (token, expected[token])
    assert _core.sample(logits, params, 2**-53, **history)[0] == np.searchsorted(ends, 2**-53, side="right")
    assert expected[_core.sample(logits, params, 1 - 2**-53, **history)[0]] > 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_draws_stay_among_what_remains(case):
    logits, settings = logits_of(case), settings_of(case)
    history = {name: case.get(name, []) for name in ("prompt", "answer")}
    expected = distribution(logits, settings, **history)
    if expected is None:
        return
    params, ends = _core.SamplingParams(**settings), np.cumsum(expected)
    for position in range(20 if "draws" in case else 200):
        uniform = _core.uniform_of(7, position)
        assert uniform == uniform_of(7, position)
        token = _core.sample(logits, params, uniform, **history)[0]
        wanted = int(np.searchsorted(ends, uniform, side="right"))
        assert expected[token] > 0
        assert token == wanted or min(abs(ends - uniform)) < 1e-6, (token, wanted)


def test_log_probabilities_are_the_models_own():
    logits = logits_of(CASES[0])
    exact = np.log(np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum())
    order = np.argsort(-exact, kind="stable")
    params = _core.SamplingParams(
        temperature=2.0, top_k=3, repetition_penalty=2.0, logit_bias={int(order[0]): float("-inf")}, top_logprobs=6
    )
    token, logprob, _, top = _core.sample(logits, params, 0.9, answer=[int(order[1])])
    assert token != order[0] and logprob == pytest.approx(exact[token], abs=1e-6)
    assert [token for token, _ in top] == list(order[:6])
    assert [value for _, value in top] == pytest.approx(exact[order[:6]], abs=1e-6)


def test_settings_are_checked_in_words():
    with pytest.raises(
        vx.UserError, match=r"\[sampling\] settings among max_tokens, .*; got 'temprature'; did you mean temperature\?"
    ):
        Sampling.of({"temprature": 1})
    assert Sampling.of({"temperature": 1, "stop": "x"}) == Sampling(temperature=1, stop=["x"])
    with pytest.raises(vx.UserError, match=r"\[max_tokens\] at least 1; got 0; raise it"):
        Sampling(max_tokens=0)
    with pytest.raises(
        vx.UserError, match=r"\[stop\] at most 64 texts of 1 to 4096 letters; got ''; change what is no such text"
    ):
        Sampling(stop=["end", ""])
    with pytest.raises(
        vx.UserError, match=r"\[sampling\] numbers, whole ones for top_k.*; got top_k 1.5; give another value"
    ):
        Sampling(top_k=1.5).params()
    with pytest.raises(vx.UserError, match="a temperature from 0"):
        Sampling(temperature=-1).params().validate(10)
    with pytest.raises(vx.UserError, match=r"\[sample\] tokens below the vocabulary of 2; token 2"):
        _core.sample(np.zeros(2, np.float32), _core.SamplingParams(), 0.5, prompt=[2])


@pytest.mark.parametrize(
    "stops, pieces, said, found",
    [
        (["END"], ["it is EN", "D and more"], ["it is ", ""], "END"),
        (["END"], ["it is EN", "OUGH"], ["it is ", "ENOUGH"], None),
        (["END"], ["E", "N", ""], ["", "", "EN"], None),
        (["aab"], ["aaa", "ab"], ["a", "a"], "aab"),
        (["bc", "abcd"], ["xab", "cd"], ["x", "a"], "bc"),
        (["abc", "bc"], ["xabc"], ["x"], "abc"),
        ([], ["anything"], ["anything"], None),
        (["👍"], ["ok 👍 yes", "more"], ["ok ", ""], "👍"),
    ],
)
def test_stop_strings_are_cut_out_wherever_pieces_break(stops, pieces, said, found):
    it = StopStrings(stops)
    assert [it.push(piece, last=i == len(pieces) - 1) for i, piece in enumerate(pieces)] == said
    assert it.found == found
