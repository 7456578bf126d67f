"""Sets of pages and the rest of a row, from the language to the engine: lists that differ by row, and attention that knows what it
left out."""

import numpy as np
import pytest
from reference.random_model import random_llama

import vortex_attention as vx
from vortex_attention import _core, flows
from vortex_attention.language import tracer
from vortex_attention.models import load_model

PROMPT = 470


class Means(vx.vFlow):
    page_size = 16

    def summarize(self, page):
        page.key = page.k.mean("token")

    def score(self, q, page):
        return vx.dot(q, page.key, over="dim").softmax("page").mean("head")


class Fixed(Means):
    """Everything that does not depend on the numbers: 2 + 3 pages and the pinned ones."""

    def score(self, page):
        return page.index + 0.0 * page.key.sum("dim").tanh()

    def select(self, score):
        return (vx.first(4) | vx.last(5)) & vx.threshold(score, 2) | vx.top_k(0 - score, 1) & vx.top_k(score, 1)


class Spread(Means):
    def select(self, score):
        return vx.top_p(score, 0.4)


class Rest(Means):
    budget = 9

    def summarize(self, page):
        super().summarize(page)
        page.value = page.v.mean("token")

    def rest(self, q, page):
        return vx.dot(q, page.key, over="dim") + page.tokens.log(), page.value


class RestOfASet(Rest):
    budget = 0

    def select(self, score):
        return vx.top_p(score, 0.4)


class SameByHand(Means):
    budget = 9

    def select(self, score):
        return vx.top_k(score)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_model(random_llama(tmp_path_factory.mktemp("select") / "tiny.gguf", seed=4), threads=1)


@pytest.fixture
def bench(loaded):
    return _core.Workbench(loaded.model, page_size=8, pages=1024, max_batch=8, threads=2)


def tokens_of(loaded, count, seed):
    return [int(t) for t in np.random.default_rng(seed).integers(0, loaded.config.vocabulary, count)]


def lists(bench, loaded, sequence):
    return [
        bench.page_list(sequence, layer, head)
        for layer in range(loaded.config.layers)
        for head in range(loaded.config.kv_heads)
    ]


def test_top_k_of_the_budget_is_what_a_score_does():
    assert vx.trace(SameByHand).hash == vx.trace(type("Plain", (Means,), {"budget": 9})).hash


def test_the_engine_attends_the_set(loaded, bench):
    base = bench.prefill(tokens_of(loaded, PROMPT, 1))
    sequence = bench.fork(base, bench.load_flow(vx.trace(Fixed)))
    bench.record_pages(True)
    bench.decode([sequence], [3])
    pages = -(-(PROMPT + 1) // 16)
    expected = sorted({0, 2, 3} | set(range(pages - 5, pages)))
    assert lists(bench, loaded, sequence) == [expected] * (loaded.config.layers * loaded.config.kv_heads)
    statistics = bench.statistics
    assert statistics.attended_pages == len(expected) * loaded.config.layers * loaded.config.kv_heads
    bench.check_integrity()


@pytest.mark.parametrize("flow", [Spread, RestOfASet])
def test_lists_differ_by_row_and_do_not_depend_on_the_batch(loaded, bench, flow):
    bases = [bench.prefill(tokens_of(loaded, count, count)) for count in (120, 400, PROMPT)]
    number = bench.load_flow(vx.trace(flow))
    together = [bench.fork(base, number) for base in bases]
    alone = [bench.fork(base, number) for base in bases]
    bench.record_pages(True)
    for step in range(3):
        token = [5 + step] * 3
        logits = np.array(bench.decode(together, token))
        for i, sequence in enumerate(alone):
            chosen = lists(bench, loaded, together[i]) if i == 0 else None
            assert np.array_equal(bench.decode([sequence], [token[i]])[0], logits[i])
            assert chosen is None or chosen == lists(bench, loaded, sequence)
    assert len({len(chosen) for chosen in lists(bench, loaded, alone[2])}) > 1


def test_a_rest_brings_the_output_nearer_to_full_attention(loaded, bench):
    base = bench.prefill(tokens_of(loaded, PROMPT, 1))
    arms = [bench.fork(base, -1)]
    for flow in (type("Plain", (Means,), {"budget": 9}), Rest):
        arms.append(bench.fork(base, bench.load_flow(vx.trace(flow))))
    distance = np.zeros(2)
    for token in tokens_of(loaded, 8, 5):
        full, plain, rest = np.array(bench.decode(arms, [token] * 3))
        distance += [np.abs(full - plain).mean(), np.abs(full - rest).mean()]
    assert distance[1] < 0.8 * distance[0]


def test_pages_of_one_token_are_estimated_exactly(loaded):
    """The mean of one key is the key: the softmax over what is attended and what is estimated is that of full attention."""
    bench = _core.Workbench(loaded.model, page_size=1, pages=2048, max_batch=8, threads=2)
    base = bench.prefill(tokens_of(loaded, 300, 1))
    arms = [bench.fork(base, -1)]
    for flow in (type("Plain", (Means,), {"budget": 40}), type("One", (Rest,), {"budget": 40})):
        arms.append(bench.fork(base, bench.load_flow(vx.trace(flow).with_settings({"page_size": "1"}))))
    full, plain, rest = np.array(bench.decode(arms, [7] * 3))
    assert np.abs(full - rest).max() < 0.1 * np.abs(full - plain).max()


def test_a_full_budget_leaves_no_rest(loaded, bench):
    base = bench.prefill(tokens_of(loaded, PROMPT, 1))
    number = bench.load_flow(vx.trace(Rest).with_settings({"budget": "1000"}))
    arms = [bench.fork(base, -1), bench.fork(base, number)]
    full, rest = np.array(bench.decode(arms, [9, 9]))
    assert np.array_equal(full, rest)


def test_nothing_left_changes_no_bit(loaded, bench):
    """A set of all candidates goes through scores, lists and the rest, and is full attention all the same."""

    class All(RestOfASet):
        def select(self, score):
            return vx.threshold(score, -1)

    base = bench.prefill(tokens_of(loaded, PROMPT, 1))
    arms = [bench.fork(base, -1), bench.fork(base, bench.load_flow(vx.trace(All)))]
    full, rest = np.array(bench.decode(arms, [9, 9]))
    assert np.array_equal(full, rest)


def test_prices_know_sets_and_rests():
    work = dict(layers=2, heads=4, kv_heads=2, head_dim=64, context=16000, batch=1)
    prices = {
        flow: _core.price(_core.compile_flow(vx.trace(flow), 64, 2), **work)
        for flow in (Fixed, Spread, Rest, type("Plain", (Means,), {"budget": 9}))
    }
    attended = [price.attended_pages for price in prices.values()]
    assert attended == [3 + 10, 1000, 9, 9]
    with_rest, plain = list(prices.values())[2:]
    assert with_rest.score_bytes > 1.9 * plain.score_bytes


HEAD = """import vortex_attention as vx
class Flow(vx.vFlow):
    budget = 4
    def summarize(self, page):
        page.mean = page.k.mean("token")
    def score(self, q, page):
        return vx.dot(q, page.mean, over="dim").sum("head")
"""

ERRORS = {
    "def select(self, score):\n        return score": "[flow.py:7] select must return a set of pages; f32[] @page; make one of it: top_k(x, k), top_p(x, p) or threshold(x, t)",
    "def select(self, score):\n        vx.top_k(score, 3)": "[flow.py:8] select returns a set of pages; nothing (None); end it with return ...",
    "def select(self, score):\n        return vx.top_k(score, 3) + 1": "[flow.py:9] add takes numbers; set[] @page, a set of pages; sets are joined by | and &, and returned by select",
    "def select(self, score):\n        return score | vx.first(3)": "[flow.py:9] either takes sets of pages; f32[] @page; make a set of it: top_k(x, k), top_p(x, p) or threshold(x, t)",
    "def select(self, score, q):\n        return vx.top_k(q, 3)": '[flow.py:9] pages are chosen by one number a page, f32[] @page; f32[head, dim] @row; reduce the axis "head"',
    "def select(self, score):\n        return vx.top_k(score, score)": "[flow.py:9] how much is chosen is one number for all pages; f32[] @page; use a number, or a value of seq or layer",
    "def select(self, score):\n        return vx.approx_top_k(score, 3, recall=2)": "[flow.py:9] recall is a share above 0 and up to 1; 2; say recall=0.95",
    "def rest(self, q, page):\n        return page.mean": "[flow.py:8] rest returns two values, the logit and the value of a page that is not chosen; Value Value(f32[dim] @page); end it with return logit, value",
    'def rest(self, q, page):\n        return page.mean.sum("dim"), page.mean': '[flow.py:9] the logit of the rest is f32[head] @page; f32[] @page; say vx.dot(q, page.mean, over="dim")',
    'def rest(self, q, page):\n        return vx.dot(q, page.mean, over="dim"), q': '[flow.py:6] the value of the rest is f32[dim] @page; f32[head, dim] @row; say page.value, made in summarize as page.v.mean("token")',
    "score = None\n    def select(self):\n        return vx.first(4)": "[flow.py:9] a flow with select scores its pages; score = None; define score(self, q, page); it may return page.index",
    "score = None\n    def rest(self, page):\n        return page.mean, page.mean": "[flow.py:9] a flow with rest scores its pages; score = None; define score(self, q, page); it may return page.index",
    "budget = 0\n    def select(self, score):\n        return vx.first(2) | vx.top_k(score)": "[flow.py:10] seq.left, and top_k without a number, are what a budget leaves; budget 0 and budget_ratio 0; set budget or budget_ratio, or say how many: top_k(x, 16)",
}


@pytest.mark.parametrize("body", ERRORS)
def test_errors_say_what_to_do(body):
    with pytest.raises(vx.UserError) as caught:
        _core.parse_flow(tracer.trace_source(f"{HEAD}    {body}\n", "flow.py", None)).verify()
    assert str(caught.value) == ERRORS[body]
