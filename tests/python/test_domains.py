"""Pages of a set and groups of pages: what a flow may write, what it becomes, and the words of what it may not."""

import numpy as np
import pytest

import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.errors import UserError


def flow(score, summarize=None, select=None):
    members = {"budget": 9, "page_size": 4, "score": score}
    if summarize:
        members["summarize"] = summarize
    if select:
        members["select"] = select
    return type("Flow", (vx.vFlow,), members)


def summarize_both(self, page):
    for part in (page, page.group(4)):
        part.mean = part.k.mean("token")


def ops(program):
    return [line.split(" = ")[1].split("(")[0] for line in program.text().splitlines() if line.startswith("%")]


def refusal(cls):
    with pytest.raises(UserError) as caught:
        vx.trace(cls)
    return f"{caught.value.required}; {caught.value.came}; {caught.value.todo}"


def test_a_value_of_all_pages_is_confined_where_it_meets_one_of_a_set():
    def score(self, q, page):
        norm = page.mean.norm("dim")
        fine = vx.dot(q, page.where(vx.top_k(norm, 8)).mean, over="dim").softmax("page").sum("head")
        return fine + norm

    program = vx.trace(flow(score, lambda self, page: setattr(page, "mean", page.k.mean("token"))))
    assert ops(program).count("confine") == 2 and ops(program).count("members") == 1
    assert "f32[] @in(" in program.text()


def test_a_threshold_of_a_sets_pages_stays_inside_the_set():
    def select(self, score, page):
        best = vx.top_k(score, 8)
        return vx.threshold(page.where(best).index, -1000)

    program = vx.trace(flow(lambda self, page: -page.index, select=select))
    scores = _core.interpret_scores(program, np.zeros((1, 4)), {}, page_indices=list(range(1, 21)), tokens=96)
    assert list(np.flatnonzero(scores)) == list(range(8))


def test_groups_have_summaries_of_their_own():
    def score(self, q, page):
        return vx.dot(q, page.group(4).mean, over="dim").sum("head").spread(other=0) + page.mean.sum("dim")

    program = vx.trace(flow(score, summarize_both))
    assert "summary group4_mean" in program.text() and "f32[token=4*token, dim] @group(4)" in program.text()
    assert _core.parse_flow(program.text()).text() == program.text()


def test_a_set_of_groups_is_taken_as_that_of_their_pages():
    def tree(self, q, page):
        best = vx.top_k(vx.dot(q, page.group(4).mean, over="dim").sum("head"), 2)
        return page.where(best).mean.sum("dim")

    def spelt(self, q, page):
        best = vx.top_k(vx.dot(q, page.group(4).mean, over="dim").sum("head"), 2)
        return page.where(best.pages()).mean.sum("dim")

    assert vx.trace(flow(tree, summarize_both)).hash == vx.trace(flow(spelt, summarize_both)).hash


def test_the_axis_over_groups_has_two_names():
    def one(self, q, page):
        return page.where(vx.top_k(page.group(4).mean.sum("dim").softmax("group"), 2)).mean.sum("dim")

    def other(self, q, page):
        return page.where(vx.top_k(page.group(4).mean.sum("dim").softmax("page"), 2)).mean.sum("dim")

    assert vx.trace(flow(one, summarize_both)).hash == vx.trace(flow(other, summarize_both)).hash


@pytest.mark.parametrize(
    "score, select, words",
    [
        (
            lambda self, page: page.group(4).mean.sum("dim") + page.mean.sum("dim"),
            None,
            "operands that differ from page to page are of the same pages; @group(4) and @page; "
            "bring the groups' value to pages: x.spread(other=0)",
        ),
        (
            lambda self, page: page.group(4).mean.sum("dim") + page.mean.max("dim").max("page"),
            None,
            "score must be one number a page, f32[] @page; f32[] @group(4); "
            "let select choose groups and say their pages: vx.top_k(score, 8).pages()",
        ),
        (
            lambda self, page: page.mean.sum("dim"),
            lambda self, page, score: vx.top_k(page.group(4).mean.sum("dim") + score.max("page"), 2),
            "select must return a set of pages, set[] @page; set[] @group(4); say which pages: groups.pages()",
        ),
        (
            lambda self, page: page.where(3).mean.sum("dim"),
            None,
            "page.where takes a set of pages; int 3; make one: vx.top_k(score, 64), vx.threshold(score, 0.5)",
        ),
        (
            lambda self, page: page.group(4).k.sum("dim"),
            None,
            "page.group(4).k exists in summarize; score, which runs every step and does not read whole pages; store what "
            'you need of it: in summarize, page.group(4).name = page.group(4).k.mean("token") or the like',
        ),
        (
            lambda self, page: page.group(4).meen.sum("dim"),
            None,
            "score knows page.group(4).mean, page.group(4).index, page.group(4).tokens; page.group(4).meen; "
            "did you mean page.group(4).mean?",
        ),
        (
            lambda self, page: page.group(1).index,
            None,
            "a group has 2 to 1024 pages; 1; say page.group(8)",
        ),
        (
            lambda self, page: page.group("8").index,
            None,
            "a group has a whole number of pages; '8'; say page.group(8)",
        ),
    ],
)
def test_the_words_of_what_is_refused(score, select, words):
    assert refusal(flow(score, summarize_both, select)) == words


def test_values_of_two_sets_do_not_meet():
    def score(self, page):
        a, b = vx.top_k(page.mean.sum("dim"), 8), vx.top_k(page.mean.norm("dim"), 8)
        return page.where(a).index + page.where(b).index + page.group(4).mean.sum("dim").spread(other=0)

    assert refusal(flow(score, summarize_both)).endswith("confine both to one set: page.where(a & b)")


def test_groups_and_confined_values_are_as_numpy_has_them():
    """Pages 1 to 10 of a row of 12 full pages: groups 0 to 2 of four pages are scored, in the last one page is no candidate."""

    def select(self, score, q, page):
        groups = vx.top_k(vx.dot(q, page.group(4).mean, over="dim").sum("head"), 1)
        inside = page.where(groups)
        share = vx.dot(q, inside.mean, over="dim").softmax("page").sum("head")
        return vx.top_k(share + 0.001 * inside.index, 2) | vx.threshold(share.spread(other=-1), 2)

    program = vx.trace(flow(lambda self, page: page.index, summarize_both, select))
    random = np.random.default_rng(5)
    k, q = random.normal(size=(12, 4, 6)), random.normal(size=(2, 6))
    pages, groups = k.mean(axis=1), k.reshape(3, 16, 6).mean(axis=1)
    for group in range(3):
        made = _core.interpret_summaries(program, k.reshape(3, 16, 6)[group], k.reshape(3, 16, 6)[group], 4)
        np.testing.assert_allclose(made["group4_mean"], groups[group])
        assert list(made) == ["group4_mean"]
    summaries = {"mean": pages[1:11], "group4_mean": groups}
    came = _core.interpret_scores(program, q, summaries, list(range(1, 11)), tokens=48)
    best = int((q @ groups.T).sum(axis=0).argmax())
    members = [page for page in range(1, 11) if page // 4 == best]
    logits = q @ pages[members].T
    share = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).sum(axis=0)
    order = np.argsort(-(share + 0.001 * np.array(members)))
    assert sorted(np.flatnonzero(came) + 1) == sorted(members[i] for i in order[:2])


@pytest.mark.parametrize("name", ["hierarchical", "centroid_tree"])
def test_ready_flows_of_two_levels_read_less(name):
    program = vx.load_flow(name, budget=64)
    plan = _core.compile_flow(program, head_dim=64, group=3)
    plain = _core.compile_flow(
        vx.load_flow("quest" if name == "hierarchical" else "centroid", budget=64), head_dim=64, group=3
    )
    work = {"layers": 30, "heads": 9, "kv_heads": 3, "head_dim": 64, "context": 16384, "batch": 1}
    assert _core.price(plan, **work).score_bytes < 0.3 * _core.price(plain, **work).score_bytes
