"""The double-precision interpreter against NumPy, op by op; every op of the table has a case."""

import numpy as np
import pytest

import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.language.value import Trace

TOKENS, DIM, PAGES, HEADS = 4, 6, 5, 3
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0]


def pages(seed: int, special: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    k, v = random.normal(size=(2, TOKENS, DIM))
    if special:
        k.flat[:5] = SPECIAL
        v.flat[5:10] = SPECIAL
        v.flat[:5] = [1.0, 1.0, 1.0, 1.0, np.nan]
    return k, v


def summary_of(build, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What `build(page_k, page_v)` computes of one page."""
    trace = Trace("case", "")
    for setting, text in {"page_size": str(TOKENS), "budget": "4"}.items():
        trace.tracer.set(setting, text)
    value = build(trace.source("page_k"), trace.source("page_v"))
    trace.tracer.summarize("x", value._id, "", 0)
    score = trace.source("summary", name="x")
    while not score.type.startswith("f32[]"):
        score = score.sum(score.type.split("[")[1].split("]")[0].split(",")[0].split("=")[0])
    trace.tracer.score(score._id)
    return _core.interpret_summaries(trace.tracer.finish(), k, v)["x"]


def score_of(build, keys: np.ndarray, q: np.ndarray, **environment) -> np.ndarray:
    """The scores `build(x, q, trace)` gives; x is the mean key of each page."""
    trace = Trace("case", "")
    for setting, text in {"page_size": str(TOKENS), "budget": "4"}.items():
        trace.tracer.set(setting, text)
    trace.tracer.summarize("x", trace.source("page_k").mean("token")._id, "", 0)
    x = trace.source("summary", name="x")
    value = build(x, trace.source("q"), trace) + 0.0 * x.sum("dim")
    trace.tracer.score(value._id)
    program = trace.tracer.finish()
    summaries = np.stack([_core.interpret_summaries(program, k, k)["x"] for k in keys])
    return _core.interpret_scores(program, q, {"x": summaries}, list(range(1, len(keys) + 1)), **environment)


def silent(function):
    def run(*arguments):
        with np.errstate(all="ignore"):
            return function(*arguments)

    return run


def random_reference(a, b):
    def mix(x):
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return x ^ (x >> 16)

    bits = [(x.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64) for x in (a, b)]
    return (mix(mix((bits[0] + 0x9E3779B9) & 0xFFFFFFFF) ^ ((bits[1] + 0x85EBCA6B) & 0xFFFFFFFF)) >> 8) / 2**24


ELEMENTWISE = {
    "add": lambda k, v: k + v,
    "sub": lambda k, v: k - v,
    "mul": lambda k, v: k * v,
    "div": lambda k, v: k / v,
    "maximum": np.fmax,
    "minimum": np.fmin,
    "neg": lambda k: -k,
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda k: 1 / np.sqrt(k),
    "floor": np.floor,
    "relu": lambda k: np.where(k > 0, k, 0),
    "tanh": np.tanh,
    "sigmoid": lambda k: 1 / (1 + np.exp(-k)),
    "silu": lambda k: k / (1 + np.exp(-k)),
    "where": lambda k, v, w: np.where(k != 0, v, w),
    "less": lambda k, v: (k < v) * 1.0,
    "less_equal": lambda k, v: (k <= v) * 1.0,
    "greater": lambda k, v: (k > v) * 1.0,
    "greater_equal": lambda k, v: (k >= v) * 1.0,
    "equal": lambda k, v: (k == v) * 1.0,
    "pow": np.power,
    "random": random_reference,
}


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name, special):
    k, v = pages(1, special)
    arity = next(op["arity"] for op in _core.op_table() if op["name"] == name)
    came = summary_of(lambda a, b: getattr(vx, name)(*[a, b, a + b][:arity]), k, v)
    if name == "random" and special:  # NaN has many bit patterns; one is enough of a case
        k, v, came = np.nan_to_num(k), np.nan_to_num(v), summary_of(vx.random, np.nan_to_num(k), np.nan_to_num(v))
    np.testing.assert_allclose(came, silent(ELEMENTWISE[name])(*[k, v, k + v][:arity]), rtol=1e-14)


def test_clamp():
    k, v = pages(2)
    np.testing.assert_array_equal(summary_of(lambda a, b: a.clamp(-0.5, high=0.25), k, v), np.clip(k, -0.5, 0.25))
    k[0, 0] = np.nan
    assert summary_of(lambda a, b: a.clamp(-0.5, high=0.25), k, v)[0, 0] == -0.5


def logsumexp(x, axis):
    top = np.max(x, axis=axis, keepdims=True)
    return np.squeeze(top + np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)), axis)


def softmax(x, axis):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


AXIS = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "norm": lambda x, axis: np.sqrt(np.sum(x * x, axis=axis)),
    "logsumexp": logsumexp,
    "softmax": softmax,
    "normalize": lambda x, axis: x / np.sum(x, axis=axis, keepdims=True),
    "cumsum": np.cumsum,
}


@pytest.mark.parametrize("axis", ["token", "dim", "page"])
@pytest.mark.parametrize("name", AXIS)
def test_along_an_axis(name, axis):
    if axis != "page":
        k, v = pages(3)
        came = summary_of(lambda a, b: getattr(a, name)(axis), k, v)
        np.testing.assert_allclose(came, AXIS[name](k, ["token", "dim"].index(axis)), rtol=1e-13)
        return
    keys = np.stack([pages(seed)[0] for seed in range(PAGES)])
    q = np.random.default_rng(9).normal(size=(HEADS, DIM))
    came = score_of(lambda x, q, _: getattr(vx.dot(q, x, over="dim"), name)("page").sum("head"), keys, q)
    expected = AXIS[name](keys.mean(1) @ q.T, 0).sum(-1)
    np.testing.assert_allclose(came, np.broadcast_to(expected, PAGES), rtol=1e-12)


def test_maxima_pass_over_nan():
    k, v = pages(4)
    k[1] = np.nan
    np.testing.assert_array_equal(summary_of(lambda a, b: a.max("token"), k, v), np.nanmax(k, 0))
    np.testing.assert_array_equal(summary_of(lambda a, b: a.min("token"), k, v), np.nanmin(k, 0))


def test_dot():
    k, v = pages(5)
    np.testing.assert_allclose(summary_of(lambda a, b: vx.dot(a, b, over="dim"), k, v), (k * v).sum(1), rtol=1e-13)
    np.testing.assert_allclose(
        summary_of(lambda a, b: vx.dot(a, b.rename("dim", "other").rename("other", "dim"), over="token"), k, v),
        (k * v).sum(0),
        rtol=1e-13,
    )


def test_dot_of_every_pair_by_names():
    """Axes that only one operand has are kept: a Gram matrix is a dot of a value with itself renamed."""
    k, v = pages(6)
    came = summary_of(lambda a, b: vx.dot(a, a.rename("token", "other"), over="dim"), k, v)
    np.testing.assert_allclose(came, k @ k.T, rtol=1e-13)


def test_shapes():
    k, v = pages(7)
    np.testing.assert_array_equal(summary_of(lambda a, b: a.split("token", sub=2), k, v), k.reshape(2, 2, DIM))
    np.testing.assert_array_equal(
        summary_of(lambda a, b: a.split("dim", part=3), k, v), k.reshape(TOKENS, 2, 3).transpose(0, 2, 1)
    )  # "dim" stands last
    np.testing.assert_array_equal(summary_of(lambda a, b: a.split("token", sub=2).merge("token", "sub"), k, v), k)
    np.testing.assert_array_equal(summary_of(lambda a, b: a.split("dim", part=3).merge("dim", "part"), k, v), k)
    np.testing.assert_array_equal(summary_of(lambda a, b: a.slice("dim", 1, 4), k, v), k[:, 1:4])
    np.testing.assert_array_equal(summary_of(lambda a, b: a.low_frequency("dim", 0.5), k, v), k[:, [2, 4, 5]])
    np.testing.assert_array_equal(summary_of(lambda a, b: a.nope(), k, v[:, :4].copy()), k[:, :4])
    np.testing.assert_array_equal(summary_of(lambda a, b: a.rope(), k, v[:, :4].copy()), k[:, 4:])
    np.testing.assert_array_equal(summary_of(lambda a, b: a.rope(), k, v), k)
    np.testing.assert_array_equal(
        summary_of(lambda a, b: a.rename("token", "z").rename("dim", "a"), k, v), k.T
    )  # by alphabet


SOURCES = {
    "page_index": lambda: np.arange(1, PAGES + 1),
    "seq_tokens": lambda: 77,
    "seq_pages": lambda: 20,
    "seq_step": lambda: 9,
    "layer_index": lambda: 3,
    "layer_count": lambda: 8,
    "layer_scale": lambda: 0.125,
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources(name):
    keys = np.stack([pages(seed)[0] for seed in range(PAGES)])
    q = np.zeros((HEADS, DIM))
    came = score_of(
        lambda x, q, trace: trace.source(name) + 0.0, keys, q, tokens=77, step=9, layer=3, layers=8, scale=0.125
    )
    np.testing.assert_array_equal(came, np.broadcast_to(SOURCES[name](), PAGES))


def test_numbers_of_the_row():
    program = vx.load_flow("centroid", page_size=TOKENS, budget=5)
    text = program.text().replace(f"score = %{program.values - 1}", "")
    last = program.values
    text += f"%{last} = page_tokens()\n%{last + 1} = seq_left()\n%{last + 2} = add(%{last}, %{last + 1})\n"
    text += f"%{last + 3} = mul(%{last - 1}, %{last + 2})\nscore = %{last + 3}\n"
    keys = np.stack([pages(seed)[0] for seed in range(PAGES)])
    q = np.random.default_rng(8).normal(size=(HEADS, DIM))
    plain, more = (
        _core.interpret_scores(p, q, {"mean": keys.mean(1)}, list(range(1, PAGES + 1)), tokens=(PAGES + 3) * TOKENS)
        for p in (program, _core.parse_flow(text))
    )
    np.testing.assert_allclose(more, plain * (TOKENS + 5 - 3), rtol=1e-14)


def top(x, count):
    return np.isin(np.arange(len(x)), np.lexsort((np.arange(len(x)), -x))[: int(count)])


def share(x, part):
    order = np.lexsort((np.arange(len(x)), -np.maximum(x, 0)))
    sums = np.cumsum(np.maximum(x, 0)[order])
    return np.isin(np.arange(len(x)), order[: np.searchsorted(sums, part * sums[-1]) + 1])


SETS = {  # of x, one number a page; the sequence has two more pages than there are candidates, which begin at 1
    "top_k": (lambda x: vx.top_k(x, 2.7), lambda x: top(x, 2)),
    "approx_top_k": (lambda x: vx.approx_top_k(x, 3), lambda x: top(x, 3)),
    "top_p": (lambda x: vx.top_p(x, 0.5), lambda x: share(x, 0.5)),
    "threshold": (lambda x: vx.threshold(x, 0), lambda x: x >= 0),
    "first": (lambda x: vx.first(3) & vx.threshold(x, -np.inf), lambda x: np.arange(1, len(x) + 1) < 3),
    "last": (lambda x: vx.last(4) & vx.threshold(x, -np.inf), lambda x: np.arange(1, len(x) + 1) >= len(x) + 2 - 4),
    "either": (lambda x: vx.top_k(x, 1) | vx.first(2), lambda x: top(x, 1) | (np.arange(1, len(x) + 1) < 2)),
    "both": (lambda x: vx.top_k(x, 3) & vx.threshold(x, 0.2), lambda x: top(x, 3) & (x >= 0.2)),
}


@pytest.mark.parametrize("name", SETS)
def test_sets(name):
    trace = Trace("case", "")
    for setting, text in {"page_size": str(TOKENS), "budget": "4"}.items():
        trace.tracer.set(setting, text)
    trace.tracer.summarize("x", trace.source("page_k").mean("token").sum("dim")._id, "", 0)
    trace.tracer.select(SETS[name][0](trace.source("summary", name="x"))._id)
    x = np.array([pages(seed)[0].mean(0).sum() for seed in range(PAGES)])
    came = _core.interpret_scores(
        trace.tracer.finish(), np.zeros((HEADS, DIM)), {"x": x}, list(range(1, PAGES + 1)), tokens=(PAGES + 2) * TOKENS
    )
    np.testing.assert_array_equal(came, SETS[name][1](x) * 1.0)


def test_shift_along_the_candidates():
    keys, q = np.stack([pages(seed)[0] for seed in range(PAGES)]), np.zeros((1, DIM))
    x = keys.mean(1).sum(-1)
    came = score_of(lambda x, q, trace: x.sum("dim").shift(2), keys, q) - 0.0 * x
    np.testing.assert_allclose(came, [0, 0, *x[:-2]], atol=1e-12)
    came = score_of(lambda x, q, trace: x.sum("dim").shift(-1, other=9), keys, q)
    np.testing.assert_allclose(came, [*x[1:], 9], atol=1e-12)


# In test_domains.py.
DOMAINS = {"group_k", "group_v", "group_index", "members", "confine", "spread"}


def test_every_op_has_a_case():
    elsewhere = (
        {
            "clamp",
            "dot",
            "split",
            "merge",
            "rename",
            "slice",
            "low_frequency",
            "nope",
            "rope",
            "shift",
            "param",
            "q",
            "page_k",
            "page_v",
            "summary",
            "constant",
        }
        | {"page_tokens", "seq_left", "page_state", "seq_state"}
        | set(SETS)
        | DOMAINS
    )
    assert {op["name"] for op in _core.op_table()} == set(ELEMENTWISE) | set(AXIS) | set(SOURCES) | elsewhere


READY = {
    "centroid": lambda q, k: softmax(k.mean(1) @ q.T, 0).sum(-1),
    "quest": lambda q, k: softmax(np.maximum(q * k.min(1)[:, None], q * k.max(1)[:, None]).sum(-1), 0).sum(-1),
    "mean_deviation": lambda q, k: softmax(k.mean(1) @ q.T + np.sqrt(k.var(1) @ (q * q).T), 0).sum(-1),
    "sub_centroid": lambda q, k: softmax((k.reshape(len(k), -1, 4, k.shape[2]).mean(2) @ q.T).max(1), 0).sum(-1),
    "slow_means": lambda q, k: softmax(
        (k.reshape(len(k), -1, 2, k.shape[2]).mean(2)[:, :, [2, 4, 5]] @ q[:, [2, 4, 5]].T).max(1), 0
    ).sum(-1),
    "oracle": lambda q, k: softmax(logsumexp(np.einsum("ptd,hd->pth", k, q), 1), 0).sum(-1),
    "recent_only": lambda q, k: np.arange(1.0, len(k) + 1),
    "random_pages": lambda q, k: random_reference(
        random_reference(np.arange(1, len(k) + 1), np.full(len(k), q.max())), np.full(len(k), 3)
    ),
}


@pytest.mark.parametrize("name", READY)
def test_ready_flows(name):
    program = vx.load_flow(name, page_size=TOKENS)
    keys = np.stack([pages(seed)[0] for seed in range(PAGES)])
    q = np.random.default_rng(8).normal(size=(HEADS, DIM))
    made = [_core.interpret_summaries(program, k, k) for k in keys]
    summaries = {field: np.stack([one[field] for one in made]) for field in made[0]}
    came = _core.interpret_scores(program, q, summaries, list(range(1, PAGES + 1)), step=9, layer=3)
    np.testing.assert_allclose(came, READY[name](q, keys), rtol=1e-12)


def test_selection():
    config = vx.load_flow("quest", budget=5).config
    assert _core.candidates_of(config, 8) == [1, 2, 3, 4, 5]
    assert _core.interpret_selection(config, 8, [1.0, np.nan, 2.0, 1.0, 1.0]) == [
        0,
        1,
        3,
        6,
        7,
    ]  # ties to the lower index
    assert _core.interpret_selection(config, 8, []) == [0, 6, 7]
    assert _core.interpret_selection(config, 2, []) == [0, 1]
    assert _core.interpret_selection(vx.load_flow("quest", budget=500).config, 8, [0.0] * 5) == list(range(8))
    assert (config.budget_of(100), config.budget_of(3), config.pinned_of(100), config.pinned_of(2)) == (5, 3, 3, 2)
    assert vx.load_flow("quest", budget=5, budget_ratio=0.5).config.budget_of(101) == 50


def test_wrong_shapes_are_named():
    program = vx.load_flow("quest")
    with pytest.raises(vx.UserError, match=r"k must be of shape \[16, 8\]; \[4, 8\] with 32 elements"):
        _core.interpret_summaries(program, np.zeros((4, 8)), np.zeros((16, 8)))
    with pytest.raises(
        vx.UserError, match=r"summary hi must be of shape \[2, 8\]|summary lo must be of shape \[2, 8\]"
    ):
        _core.interpret_scores(program, np.zeros((1, 8)), {}, [1, 2])


def test_a_flow_that_does_not_fit_a_model():
    quest = vx.load_flow("quest")
    quest.verify_for(64, 3)
    trace = Trace("case", "")
    trace.tracer.set("budget", "4")
    trace.tracer.summarize("x", trace.source("page_k").split("dim", part=3).max("token")._id, "", 0)
    trace.tracer.score(trace.source("summary", name="x").sum("dim").sum("part")._id)
    program = trace.tracer.finish()
    program.verify_for(6, 1)
    with pytest.raises(
        vx.UserError,
        match='the size of "dim", dim/3, must be whole; page_size 16, head_dim 64, 1 heads a row; this flow does not fit',
    ):
        program.verify_for(64, 1)
