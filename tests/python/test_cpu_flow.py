"""The CPU backend from Python, against NumPy written by hand."""

import numpy as np
import pytest
from reference.learned import ready
from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.flows import load_flow

PAGES, PAGE, DIM, GROUP = 150, 16, 64, 3


def bf16(x):
    """Rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.fixture
def data():
    random = np.random.default_rng(1)
    k = random.standard_normal((PAGES, PAGE, DIM), np.float32)
    q = random.standard_normal((GROUP, DIM), np.float32) / 4
    return q, k


def test_quest_is_the_bound_by_hand(data):
    q, k = data
    flow = _core.cpu_flow(load_flow("quest"), DIM, GROUP)
    summaries = flow.summarize(k, k)
    assert np.array_equal(summaries["lo"], bf16(k).min(axis=1)) and np.array_equal(summaries["hi"], bf16(k).max(axis=1))
    lo, hi = (summaries[name].astype(np.float64) for name in ("lo", "hi"))
    bound = np.maximum(q[:, None] * lo, q[:, None] * hi).sum(axis=-1)
    np.testing.assert_allclose(flow.scores(q, summaries), softmax(bound).sum(axis=0), rtol=2e-5)


def test_passes_left_out_change_no_score(data):
    q, k = data
    full = _core.cpu_flow(load_flow("quest"), DIM, GROUP)
    plain = _core.cpu_flow(load_flow("quest"), DIM, GROUP, without=["facts", "contract"])
    summaries = full.summarize(k, k)
    np.testing.assert_allclose(full.scores(q, summaries), plain.scores(q, summaries), rtol=2e-5)
    assert "stream dot" in full.text() and "stream dot" not in plain.text()


def test_every_ready_flow_agrees_with_the_interpreter(data):
    from vortex_attention import flows

    q, k = data
    for name in flows.names():
        program = ready(name, DIM)
        if (
            not program.scores or "group" in program.text()
        ):  # groups: tests/unit/attention/step_test.cpp, on whole steps
            continue
        flow = _core.cpu_flow(program, DIM, GROUP, without=["canonicalize"])
        summaries = flow.summarize(k, k)
        sizes = dict(tokens=(PAGES + 4) * PAGE, step=3, layer=1, layers=30)
        came = flow.scores(q, summaries, candidates=PAGES, first_page=1, **sizes)
        wide = {key: value.astype(np.float64) for key, value in summaries.items()}
        expected = _core.interpret_scores(
            flow.plan.program, q.astype(np.float64), wide, list(range(1, PAGES + 1)), **sizes
        )
        np.testing.assert_allclose(came, expected, rtol=5e-5, atol=1e-9, err_msg=name)


def test_wrong_arrays_are_refused(data):
    q, k = data
    flow = _core.cpu_flow(load_flow("centroid"), DIM, GROUP)
    with pytest.raises(UserError, match=r"\[summarize\] k of shape \[pages, page_size, head_dim\]; \[150, 8, 64\]"):
        flow.summarize(np.ascontiguousarray(k[:, :8]), np.ascontiguousarray(k[:, :8]))
    summaries = flow.summarize(k, k)
    with pytest.raises(UserError, match=r"\[scores\] q of shape \[group, head_dim\]; \[2, 64\]"):
        flow.scores(q[:2], summaries)
    with pytest.raises(UserError, match=r"\[scores\] summaries mean; none called mean"):
        flow.scores(q, {})
    with pytest.raises(UserError, match=r"mean of shape \[candidates, axes of the summary\]; \[150, 32\]"):
        flow.scores(q, {"mean": np.ascontiguousarray(summaries["mean"][:, :32])})


def test_explain_and_roofline():
    plan = _core.compile_flow(load_flow("centroid"), DIM, GROUP)
    model = dict(layers=30, heads=9, kv_heads=3, head_dim=64, context=7500, batch=8, weight_bytes=96_000_000)
    text = _core.explain(plan, **model)
    assert "page 0, over all candidates of a row" in text and "dot(q, page.mean, over dim)" in text
    price = _core.price(plan, **model)
    least = _core.roofline(price, 20e9)
    assert least.speedup == pytest.approx(price.step_speedup, rel=0.02)
    assert least.step == pytest.approx(least.score + least.select + least.attend + least.linears)
