"""Greedy answers beside full attention's, their KL, RULER's questions that are kept."""

import numpy as np
import pytest
from small_suites import RULER, outcomes_of, quiet, wanted
from vortex_attention.cli import measure
from vortex_attention.errors import InternalError, UserError
from vortex_attention.eval import bed as beds
from vortex_attention.eval.arms import FULL
from vortex_attention.eval.compare import FullRow
from vortex_attention.eval.generate import COMPARED, Question, answers
from vortex_attention.eval.score import log_softmax
from vortex_attention.eval.suite import Item


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


def test_questions_are_drawn_once(model, small_sources, monkeypatch):
    first = measure.accuracy(wanted(model, "ruler", options=RULER), quiet)
    monkeypatch.setattr("vortex_attention.eval.ruler.table.task", None)  # the sources are not asked again
    again = measure.accuracy(wanted(model, "ruler", options=RULER), quiet)
    fewer = measure.accuracy(wanted(model, "ruler", options=RULER | {"items": 1}), quiet)
    assert outcomes_of(again) == outcomes_of(first)
    assert fewer["items"] == first["items"][::2]
    others = measure.accuracy(wanted(model, "ruler", options=RULER | {"items": 1, "first": 1}), quiet)
    assert others["items"] == first["items"][1::2] and others["settings"]["first"] == 1
    assert outcomes_of(others) == {name: found[1::2] for name, found in outcomes_of(first).items()}
    assert [item.get("cluster") for item in first["items"]] == [None] * 4 + ["qa_1 0", "qa_1 1"]
