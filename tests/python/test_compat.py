"""Flows written for vortex_torch: every op of its catalogue beside the same algorithm in the language, page lists compared in the
interpreter and on the CPU; what does not map is refused with its line."""

import numpy as np
import pytest
import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.language import tracer

PAGE, DIM, GROUP, PAGES, LAYERS = 16, 32, 4, 80, 6

FILE = """from typing import Dict
import torch
from vortex_torch.flow import vFlow, register
from vortex_torch.indexer import *
from vortex_torch.cache import (
    Mean as CMean, Max as CMax, Min as CMin, L2Norm as CL2Norm, GeMM as CGeMM, Multiply as CMultiply, Add as CAdd,
    Maximum as CMaximum, Minimum as CMinimum, Relu as CRelu, Sigmoid as CSigmoid, Silu as CSilu, Add_Mul as CAdd_Mul, Abs as CAbs,
    Log as CLog, Exp as CExp, MaskSlice as CMaskSlice, Reshape as CReshape, Fill as CFill, WhereGreater as CWhereGreater,
    WhereEqual as CWhereEqual, WhereNotEqual as CWhereNotEqual, WhereGreaterEqual as CWhereGreaterEqual, WhereLess as CWhereLess,
    WhereLessEqual as CWhereLessEqual, MeanInterleave, MaxInterleave, MinInterleave, L2NormInterleave,
)
from vortex_torch.abs import ContextBase


@register("case")
class Case(vFlow):
    def __init__(self):
        super().__init__()
        self.out = topK()
        for name, op in ops().items():
            setattr(self, name, op)

    def forward_indexer(self, q: torch.Tensor, o: torch.Tensor, cache: Dict[str, torch.Tensor], ctx: ContextBase):
        {indexer}

    def forward_cache(self, cache: Dict[str, torch.Tensor], loc: torch.Tensor, ctx: ContextBase):
        {cache}

    def create_cache(self, block_size: int, head_dim: int):
        return {{{fields}}}


def ops():
    return dict({ops})
"""
MEAN = 'self.cmean(cache["k"], cache["mean"], loc=loc, ctx=ctx)'
MEAN_FIELD = '"mean": (1, head_dim)'


def theirs(indexer, ops="", cache=MEAN, fields=MEAN_FIELD, page_size=PAGE, **settings) -> _core.Program:
    """The program of a flow file of vortex_torch with these statements; several are separated by ; ."""
    split = "\n        ".join
    ops = f"cmean=CMean(dim=1), {ops}"
    source = FILE.format(
        indexer=split(indexer.split("; ")), cache=split(cache.split("; ")), fields=fields, ops=ops.rstrip(", ")
    )
    return _core.parse_flow(tracer.trace_source(source, "case.py", None, {"block_size": page_size, **settings}))


class Ours(vx.vFlow):
    """What every case starts from: the settings of vortex_torch's engine, and the query without the softmax scale."""

    page_size, budget, sinks, recent, full_attention_layers = PAGE, 32, 1, 2, [0]

    def summarize(self, page):
        page.mean = page.k.mean("token")


def ours(score, summarize=None, **more) -> _core.Program:
    members = {"score": lambda self, q, page, layer, seq: score(q / layer.scale, page, seq), **more}
    if summarize:
        members["summarize"] = lambda self, page: summarize(page)
    return vx.trace(type("Case", (Ours,), members))


def data(page=PAGE, dim=DIM, value_dim=0, seed=3):
    random = np.random.default_rng(seed)
    k = random.standard_normal((PAGES, page, dim), np.float32) + random.standard_normal((PAGES, 1, dim), np.float32)
    v = random.standard_normal((PAGES, page, value_dim or dim), np.float32) * random.uniform(
        0.5, 2, (PAGES, 1, 1)
    ).astype(np.float32)
    bf16 = lambda x: (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return random.standard_normal((GROUP, dim), np.float32) / 4, bf16(k), bf16(v)


def chosen(program, page=PAGE, dim=DIM, value_dim=0, scale=0.25):
    """The scores and the page lists of a row: by the interpreter, then by the CPU backend."""
    q, k, v = data(page, dim, value_dim)
    tokens = (PAGES + 2) * page + 1
    where = dict(tokens=tokens, step=5, layer=2, layers=LAYERS, scale=scale)
    candidates = _core.candidates_of(program.config, PAGES + 3)
    candidates = [index for index in candidates if index < PAGES]
    pages = [_core.interpret_summaries(program, k[i].astype(float), v[i].astype(float)) for i in candidates]
    stacked = {name: np.stack([page[name] for page in pages]) for name in program.summaries}
    scores = _core.interpret_scores(program, q.astype(float), stacked, candidates, value_dim=value_dim, **where)
    flow = _core.cpu_flow(program, dim, GROUP, value_dim=value_dim)
    summaries = flow.summarize(k[candidates], v[candidates])
    fast = flow.scores(q, summaries, candidates=len(candidates), first_page=candidates[0], **where)
    take = lambda x: sorted(np.argsort(-np.asarray(x, float), kind="stable")[:29])
    return np.asarray(scores), take(scores), take(fast)


def assert_same(one, other, **sizes):
    scores, slow, fast = chosen(one, **sizes)
    expected, slow_expected, fast_expected = chosen(other, **sizes)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)
    assert len(set(np.round(expected, 12))) > 12, "the case cannot tell pages apart"
    assert slow == slow_expected and fast == fast_expected
    assert one.config == other.config


dot = lambda q, x: vx.dot(q, x, over="dim")
END = "; self.out(s, o, ctx=ctx)"
SCORE = 's = self.dot(self.qmean(q, ctx=ctx), cache["mean"], ctx=ctx); '
SCORE_OPS = "qmean=Mean(dim=1), dot=GeMM(), "
base = lambda q, page: dot(q.mean("head"), page.mean)
add = lambda q, page, more: base(q, page) + more

INDEXER = {  # case → (statements of forward_indexer, ops, the score in the language)
    "GeMM": (
        's = self.m(self.g(q, cache["mean"], ctx=ctx), ctx=ctx)',
        "g=GeMM(), m=Max(dim=2)",
        lambda q, p, s: dot(q, p.mean).max("head"),
    ),
    "GeMM of rows": (
        's = self.m(self.g(cache["mean"], q, ctx=ctx), ctx=ctx)',
        "g=GeMM(), m=Max(dim=1)",
        lambda q, p, s: dot(q, p.mean).max("head"),
    ),
    "GeMM of columns": (
        't = self.t(q, ctx=ctx); u = self.u(cache["mean"], ctx=ctx); s = self.b(self.a(self.g(u, self.m(t, ctx=ctx), ctx=ctx), ctx=ctx), ctx=ctx)',
        "t=Transpose(), u=Transpose(), m=Max(dim=2), g=GeMM(), a=Max(dim=1), b=Sum(dim=2)",
        lambda q, p, s: (q.max("head").rename("dim", "other") * p.mean).max("other").sum("dim"),
    ),
    "GeMM of the query with itself": (
        'w = self.d(self.c(self.gg(q, q, ctx=ctx), ctx=ctx), ctx=ctx); s = self.m(self.x(self.g(q, cache["mean"], ctx=ctx), self.t(w, ctx=ctx), ctx=ctx), ctx=ctx)',
        "gg=GeMM(), c=Sum(dim=2), d=Abs(), g=GeMM(), t=Transpose(), x=Multiply(), m=Sum(dim=2)",
        lambda q, p, s: (dot(q, p.mean) * dot(q, q.rename("head", "other")).sum("other").abs()).sum("head"),
    ),
    "GeMV": ('s = self.g(q.mean(dim=1, keepdim=True), cache["mean"], ctx=ctx)', "g=GeMV()", lambda q, p, s: base(q, p)),
    "Mean, Sum": (
        's = self.s(self.x(self.qmean(q, ctx=ctx), cache["mean"], ctx=ctx), ctx=ctx)',
        "qmean=Mean(dim=1), x=Multiply(), s=Sum(dim=2)",
        lambda q, p, s: base(q, p),
    ),
    "Max": ('s = self.m(cache["mean"], ctx=ctx)', "m=Max(dim=2)", lambda q, p, s: p.mean.max("dim")),
    "Min": ('s = self.m(cache["mean"], ctx=ctx)', "m=Min(dim=2)", lambda q, p, s: p.mean.min("dim")),
    "L2Norm": ('s = self.m(cache["mean"], ctx=ctx)', "m=L2Norm(dim=2)", lambda q, p, s: p.mean.norm("dim")),
    "L2Norm of one": (
        SCORE + "s = self.n(s, ctx=ctx)",
        SCORE_OPS + "n=L2Norm(dim=1)",
        lambda q, p, s: base(q, p).abs(),
    ),
    **{
        f"{op}(dim=0)": (
            SCORE + "s = self.x(s, self.w(s, self.r(s, ctx=ctx), ctx=ctx), ctx=ctx)",
            SCORE_OPS + f"r={op}(dim=0), w=Add(), x=Multiply()",
            lambda q, p, s, name=name: base(q, p) * (base(q, p) + getattr(base(q, p), name)("page")),
        )
        for op, name in {"Mean": "mean", "Max": "max", "Min": "min", "Sum": "sum", "L2Norm": "norm"}.items()
    },
    "Multiply": (
        SCORE + 's = self.x(s, self.n(cache["mean"], ctx=ctx), ctx=ctx)',
        SCORE_OPS + "x=Multiply(), n=L2Norm(dim=2)",
        lambda q, p, s: base(q, p) * p.mean.norm("dim"),
    ),
    "Add": (
        SCORE + 's = self.x(s, self.n(cache["mean"], ctx=ctx), ctx=ctx)',
        SCORE_OPS + "x=Add(alpha=2.0, beta=-0.5), n=L2Norm(dim=2)",
        lambda q, p, s: 2 * base(q, p) - 0.5 * p.mean.norm("dim"),
    ),
    "Maximum": (
        SCORE + 's = self.x(s, self.n(cache["mean"], ctx=ctx), ctx=ctx)',
        SCORE_OPS + "x=Maximum(), n=Max(dim=2)",
        lambda q, p, s: vx.maximum(base(q, p), p.mean.max("dim")),
    ),
    "Minimum": (
        SCORE + 's = self.x(s, self.n(cache["mean"], ctx=ctx), ctx=ctx)',
        SCORE_OPS + "x=Minimum(), n=Max(dim=2)",
        lambda q, p, s: vx.minimum(base(q, p), p.mean.max("dim")),
    ),
    **{
        f"Where{op}": (
            SCORE + 'n = self.n(cache["mean"], ctx=ctx); s = self.a(s, self.w(s, n, ctx=ctx), ctx=ctx)',
            SCORE_OPS + f"n=Max(dim=2), w=Where{op}(), a=Add()",
            lambda q, p, s, holds=holds: add(q, p, vx.where(holds(base(q, p), p.mean.max("dim")), 0.0, -1e30)),
        )
        for op, holds in {
            "Greater": lambda a, b: a > b,
            "GreaterEqual": lambda a, b: a >= b,
            "Less": lambda a, b: a < b,
            "LessEqual": lambda a, b: a <= b,
            "NotEqual": lambda a, b: 1 - (a == b),
        }.items()
    },
    "WhereEqual": (
        SCORE
        + 'w = self.e(cache["mean"], self.mx(cache["mean"], ctx=ctx), ctx=ctx); s = self.m(self.g(self.qmean(q, ctx=ctx), self.a(cache["mean"], self.r(w, ctx=ctx), ctx=ctx), ctx=ctx), ctx=ctx)',
        SCORE_OPS + "mx=Max(dim=2), e=WhereEqual(), r=Exp(), a=Multiply(), g=GeMM(), m=Max(dim=1)",
        lambda q, p, s: dot(q.mean("head"), p.mean * vx.where(p.mean == p.mean.max("dim"), 0.0, -1e30).exp()),
    ),
    "Relu()": (
        SCORE + "t = self.r(s, ctx=ctx); s = self.a(t, s, ctx=ctx)",
        SCORE_OPS + "r=Relu(), a=Add(1.0, 0.01)",
        lambda q, p, s: base(q, p).relu() + 0.01 * base(q, p),
    ),
    "Relu(alpha, beta)": (
        SCORE + "t = self.r(s, ctx=ctx); s = self.a(t, s, ctx=ctx)",
        SCORE_OPS + "r=Relu(alpha=0.5, beta=-3.0), a=Add(1.0, 0.01)",
        lambda q, p, s: vx.where(base(q, p) >= 0.5, base(q, p), -3.0) + 0.01 * base(q, p),
    ),
    "Sigmoid() is 1/2": (
        SCORE + "s = self.a(self.r(s, ctx=ctx), s, ctx=ctx)",
        SCORE_OPS + "r=Sigmoid(), a=Multiply()",
        lambda q, p, s: base(q, p) * 0.5,
    ),
    "Sigmoid(beta=-1)": (
        SCORE + "s = self.a(self.r(s, ctx=ctx), self.n(s, ctx=ctx), ctx=ctx)",
        SCORE_OPS + "r=Sigmoid(beta=-1.0), n=Abs(), a=Add()",
        lambda q, p, s: base(q, p).sigmoid() + base(q, p).abs(),
    ),
    "Sigmoid(alpha, beta)": (
        SCORE + "s = self.r(s, ctx=ctx)",
        SCORE_OPS + "r=Sigmoid(0.5, 2.0)",
        lambda q, p, s: 1 / (1 + (2 * base(q, p) + 0.5).exp()),
    ),
    "Silu() is x/2": (SCORE + "s = self.r(s, ctx=ctx)", SCORE_OPS + "r=Silu()", lambda q, p, s: base(q, p) / 2),
    "Silu(beta=-1)": (
        SCORE + "s = self.r(s, ctx=ctx)",
        SCORE_OPS + "r=Silu(beta=-1.0)",
        lambda q, p, s: base(q, p).silu(),
    ),
    "Add_Mul": (
        SCORE + "s = self.n(self.r(s, ctx=ctx), ctx=ctx)",
        SCORE_OPS + "r=Add_Mul(alpha=3.0, beta=-2.0), n=Abs()",
        lambda q, p, s: (3 - 2 * base(q, p)).abs(),
    ),
    "Abs": (SCORE + "s = self.r(s, ctx=ctx)", SCORE_OPS + "r=Abs(alpha=1.0)", lambda q, p, s: (base(q, p) + 1).abs()),
    "Log": (
        SCORE + "s = self.l(self.r(s, ctx=ctx), ctx=ctx)",
        SCORE_OPS + "r=Abs(), l=Log(alpha=0.25, beta=2.0)",
        lambda q, p, s: (2 * base(q, p).abs() + 0.25).log(),
    ),
    "Exp": (
        SCORE + "s = self.a(self.l(s, ctx=ctx), s, ctx=ctx)",
        SCORE_OPS + "l=Exp(beta=-0.5), a=Add()",
        lambda q, p, s: (-0.5 * base(q, p)).exp() + base(q, p),
    ),
    "Softmax": (
        's = self.m(self.f(self.g(q, cache["mean"], ctx=ctx), ctx=ctx), ctx=ctx)',
        "g=GeMM(), f=Softmax(dim=0, scale=0.09), m=Max(dim=2)",
        lambda q, p, s: (dot(q, p.mean) * 0.09).softmax("page").max("head"),
    ),
    "Softmax in place": (
        's = self.g(q, cache["mean"], ctx=ctx); self.f(s, ctx=ctx); s = self.m(s, ctx=ctx)',
        "g=GeMM(), f=Softmax(dim=0, scale=0.09), m=Max(dim=2)",
        lambda q, p, s: (dot(q, p.mean) * 0.09).softmax("page").max("head"),
    ),
    "Softmax beside its operand": (
        SCORE + "t = self.f(s, ctx=ctx); s = self.a(s, t, ctx=ctx)",
        SCORE_OPS + "f=Softmax(), a=Multiply()",
        lambda q, p, s: base(q, p) * base(q, p).softmax("page"),
    ),
    "Normalize": (
        SCORE + "s = self.m(self.n(self.e(s, ctx=ctx), ctx=ctx), s, ctx=ctx)",
        SCORE_OPS + "e=Exp(), n=Normalize(), m=Multiply()",
        lambda q, p, s: base(q, p).exp().normalize("page") * base(q, p),
    ),
    "Transpose": (
        's = self.m(self.s(self.t(self.x(q, cache["mean"], ctx=ctx), ctx=ctx), ctx=ctx), ctx=ctx)',
        "x=Multiply(), t=Transpose(), s=Sum(dim=1), m=Max(dim=2)",
        lambda q, p, s: dot(q, p.mean).max("head"),
    ),
    "MaskSlice": (
        'qm = self.qmean(q, ctx=ctx); s = self.g(self.x(qm, self.k(qm, ctx=ctx), ctx=ctx), cache["mean"], ctx=ctx)',
        "qmean=Mean(dim=1), k=MaskSlice(start=8, end=24, dim=2), x=Multiply(), g=GeMM()",
        lambda q, p, s: dot(q.mean("head").slice("dim", 8, 24), p.mean.slice("dim", 8, 24)),
    ),
    "MaskSlice(alpha, beta)": (
        'qm = self.qmean(q, ctx=ctx); s = self.g(self.x(qm, self.k(qm, ctx=ctx), ctx=ctx), cache["mean"], ctx=ctx)',
        "qmean=Mean(dim=1), k=MaskSlice(0, 8, 2, 0.25, 0.75), x=Multiply(), g=GeMM()",
        lambda q, p, s: (
            0.25 * dot(q.mean("head").slice("dim", 0, 8), p.mean.slice("dim", 0, 8))
            + 0.75 * dot(q.mean("head").slice("dim", 8, 32), p.mean.slice("dim", 8, 32))
        ),
    ),
    "Conv1d": (
        SCORE + "s = self.c(s, ctx=ctx)",
        SCORE_OPS + "c=Conv1d([[[0.25]], [[1.0]], [[0.5]]], dim=0)",
        lambda q, p, s: 0.25 * base(q, p).shift(1) + base(q, p) + 0.5 * base(q, p).shift(-1),
    ),
    "Conv1d of an even length": (
        SCORE + "s = self.c(s, ctx=ctx)",
        SCORE_OPS + "c=Conv1d([[[2.0]], [[3.0]]])",
        lambda q, p, s: 2 * base(q, p).shift(1) + 3 * base(q, p),
    ),
    "Conv1d of stored blocks": (
        's = self.m(self.c(self.i(cache["mean"], ctx=ctx), ctx=ctx), ctx=ctx)',
        "i=Add_Mul(), c=Conv1d([[[0.5]], [[1.0]], [[-1.0]]]), m=Max(dim=2)",
        lambda q, p, s: (0.5 * p.mean.shift(1) + p.mean - p.mean.shift(-1)).max("dim"),
    ),
    "native torch on the query": (
        's = self.g((q * 2 + q.amax(dim=1, keepdim=True)).sum(dim=1, keepdim=True), cache["mean"], ctx=ctx)',
        "g=GeMM()",
        lambda q, p, s: dot((q * 2 + q.max("head")).sum("head"), p.mean),
    ),
}


@pytest.mark.parametrize("case", INDEXER)
def test_an_op_of_the_indexer(case):
    indexer, ops, score = INDEXER[case]
    assert_same(theirs(indexer + END, ops), ours(score))


KEYS = 's = self.g(self.qmean(q, ctx=ctx), cache["x"], ctx=ctx)'
KEYS_OPS = "qmean=Mean(dim=1), g=GeMM(), "
CACHE = {  # case → (statements of forward_cache, ops, rows and columns of the field, the summary in the language)
    "Mean": ('self.c(cache["k"], cache["x"], loc=loc, ctx=ctx)', "c=CMean(dim=1)", "(1, head_dim)", lambda p: p.k.mean("token")),
    "Max": ('self.c(cache["k"], cache["x"], loc=loc, ctx=ctx)', "c=CMax(dim=1)", "(1, head_dim)", lambda p: p.k.max("token")),
    "Min": ('self.c(cache["v"], cache["x"], loc=loc, ctx=ctx)', "c=CMin(dim=1)", "(1, head_dim)", lambda p: p.v.min("token")),
    "L2Norm": ('self.c(cache["k"], cache["x"], loc, ctx)', "c=CL2Norm(dim=1)", "(1, head_dim)", lambda p: p.k.norm("token")),
    "an intermediate": (
        'n = self.n(cache["v"], loc=loc, ctx=ctx); w = self.m(n, loc=loc, ctx=ctx); self.x(self.c(cache["k"], loc=loc, ctx=ctx), w, cache["x"], loc=loc, ctx=ctx)',
        "n=CL2Norm(dim=2), m=CMean(dim=1), c=CMean(dim=1), x=CMultiply()",
        "(1, head_dim)",
        lambda p: p.k.mean("token") * p.v.norm("dim").mean("token"),
    ),
    "output by name": ('self.c(cache["k"], output=cache["x"], loc=loc, ctx=ctx)', "c=CMean()", "(1, head_dim)", lambda p: p.k.mean("token")),
    "GeMM": (
        'n = self.n(cache["k"], loc=loc, ctx=ctx); g = self.cg(cache["k"], n, loc=loc, ctx=ctx); self.x(n, self.mm(self.aa(g, loc=loc, ctx=ctx), loc=loc, ctx=ctx), cache["x"], loc=loc, ctx=ctx)',
        "n=CMean(dim=1), cg=CGeMM(), aa=CAbs(), mm=CMax(dim=2), x=CMultiply()",
        "(1, head_dim)",
        lambda p: p.k.mean("token") * dot(p.k, p.k.mean("token")).abs().max("token"),
    ),
    "GeMM of a block with itself": (
        'g = self.cg(cache["k"], cache["k"], loc=loc, ctx=ctx); w = self.s1(self.s2(g, loc=loc, ctx=ctx), loc=loc, ctx=ctx); self.x(self.c(cache["k"], loc=loc, ctx=ctx), w, cache["x"], loc=loc, ctx=ctx)',
        "cg=CGeMM(), s2=CMean(dim=2), s1=CMean(dim=1), c=CMean(dim=1), x=CMultiply()",
        "(1, head_dim)",
        lambda p: p.k.mean("token") * dot(p.k, p.k.rename("token", "other")).mean("other").mean("token"),
    ),
    "Add": ('self.a(self.c(cache["k"], loc=loc, ctx=ctx), self.m(cache["k"], loc=loc, ctx=ctx), cache["x"], loc=loc, ctx=ctx)', "c=CMean(dim=1), m=CMax(dim=1), a=CAdd(0.5, 2.0)", "(1, head_dim)", lambda p: 0.5 * p.k.mean("token") + 2 * p.k.max("token")),
    "Maximum, Minimum": (
        'a = self.c(cache["k"], loc=loc, ctx=ctx); b = self.m(cache["v"], loc=loc, ctx=ctx); self.lo(self.hi(a, b, loc=loc, ctx=ctx), self.one(a, loc=loc, ctx=ctx), cache["x"], loc=loc, ctx=ctx)',
        "c=CMean(dim=1), m=CMean(dim=1), hi=CMaximum(), one=CAdd_Mul(alpha=0.25), lo=CMinimum()",
        "(1, head_dim)",
        lambda p: vx.minimum(vx.maximum(p.k.mean("token"), p.v.mean("token")), p.k.mean("token") + 0.25),
    ),
    **{
        f"Where{op}": (
            'a = self.c(cache["k"], loc=loc, ctx=ctx); b = self.m(cache["v"], loc=loc, ctx=ctx); self.x(self.e(self.w(a, b, loc=loc, ctx=ctx), loc=loc, ctx=ctx), a, cache["x"], loc=loc, ctx=ctx)',
            f"c=CMean(dim=1), m=CMean(dim=1), w=CWhere{op}(), e=CExp(), x=CMultiply()",
            "(1, head_dim)",
            lambda p, holds=holds: p.k.mean("token") * vx.where(holds(p.k.mean("token"), p.v.mean("token")), 0.0, -1e30).exp(),
        )
        for op, holds in {"Greater": lambda a, b: a > b, "GreaterEqual": lambda a, b: a >= b, "Less": lambda a, b: a < b, "LessEqual": lambda a, b: a <= b, "NotEqual": lambda a, b: 1 - (a == b)}.items()
    },
    "WhereEqual": (
        'a = self.c(cache["k"], loc=loc, ctx=ctx); self.x(self.e(self.w(a, self.m(a, loc=loc, ctx=ctx), loc=loc, ctx=ctx), loc=loc, ctx=ctx), a, cache["x"], loc=loc, ctx=ctx)',
        "c=CMean(dim=1), m=CMax(dim=2), w=CWhereEqual(), e=CExp(), x=CMultiply()",
        "(1, head_dim)",
        lambda p: p.k.mean("token") * vx.where(p.k.mean("token") == p.k.mean("token").max("dim"), 0.0, -1e30).exp(),
    ),
    **{
        name: ('self.f(self.c(cache["k"], loc=loc, ctx=ctx), cache["x"], loc=loc, ctx=ctx)', f"c=CMean(dim=1), f={op}", "(1, head_dim)", lambda p, f=f: f(p.k.mean("token")))
        for name, op, f in (
            ("Relu", "CRelu(0.1, -1.0)", lambda x: vx.where(x >= 0.1, x, -1.0)),
            ("Sigmoid", "CSigmoid(0.0, -1.0)", lambda x: x.sigmoid()),
            ("Silu", "CSilu(0.0, -1.0)", lambda x: x.silu()),
            ("Add_Mul", "CAdd_Mul(1.0, 3.0)", lambda x: 3 * x + 1),
            ("Abs", "CAbs()", lambda x: x.abs()),
            ("Log", "CLog(9.0, 1.0)", lambda x: (x + 9).log()),
            ("Exp", "CExp(0.0, 0.5)", lambda x: (0.5 * x).exp()),
        )
    },
    "MaskSlice": (
        'm = self.k(cache["k"], loc=loc, ctx=ctx); self.c(self.x(cache["k"], m, loc=loc, ctx=ctx), cache["x"], loc=loc, ctx=ctx)',
        "k=CMaskSlice(4, 12, 1), x=CMultiply(), c=CMean(dim=1)",
        "(1, head_dim)",
        lambda p: p.k.slice("token", 4, 12).sum("token") / 16,
    ),
    "Fill": ('self.f(cache["y"], loc=loc, ctx=ctx); self.c(cache["k"], cache["x"], loc=loc, ctx=ctx)', "f=CFill(0.5), c=CMean(dim=1)", '(1, head_dim), "y": (1, 1)', lambda p: p.k.mean("token")),
}  # fmt: skip


@pytest.mark.parametrize("case", CACHE)
def test_an_op_of_the_cache(case):
    cache, ops, shape, summary = CACHE[case]

    def summarize(page):
        page.x = summary(page)

    assert_same(
        theirs(KEYS + END, KEYS_OPS + ops, cache, f'"x": {shape}'),
        ours(lambda q, p, s: dot(q.mean("head"), p.x), summarize),
    )


INTERLEAVED = {"MeanInterleave": "mean", "MaxInterleave": "max", "MinInterleave": "min", "L2NormInterleave": "norm"}


@pytest.mark.parametrize("op", INTERLEAVED)
@pytest.mark.parametrize("k, page", [(4, 16), (16, 16), (16, 32), (1, 16)])
def test_interleaved_reductions(op, k, page):
    def summarize(p):
        p.x = getattr(p.k.split("token", part=k), INTERLEAVED[op])("part")

    one = theirs(
        'm = self.m(self.g(self.qmean(q, ctx=ctx), cache["x"], ctx=ctx), ctx=ctx)' + END.replace("(s,", "(m,"),
        f"qmean=Mean(dim=1), g=GeMM(), m=Max(dim=1), i={op}(dim=1, k={k})",
        'self.i(cache["k"], cache["x"], loc=loc, ctx=ctx)',
        f'"x": (block_size // {k}, head_dim)',
        page_size=page,
    )
    other = ours(lambda q, p, s: dot(q.mean("head"), p.x).max("token"), summarize, page_size=page)
    assert_same(one, other, page=page)


def test_interleaved_channels():
    def summarize(p):
        p.x = p.k.mean("token").split("dim", part=2).mean("part")

    one = theirs(
        's = self.m(cache["x"], ctx=ctx)' + END,
        "m=Max(dim=2), c=CMean(dim=1), i=MeanInterleave(dim=2, k=2)",
        'self.i(self.c(cache["k"], loc=loc, ctx=ctx), cache["x"], loc=loc, ctx=ctx)',
        '"x": (1, head_dim // 2)',
    )
    assert_same(one, ours(lambda q, p, s: p.x.max("dim"), summarize))


def test_quest_by_sub_blocks_with_kron():
    """Each sub-block's bound: kron along D0 of the query's heads with the sub-blocks."""

    def summarize(p):
        p.hi = p.k.split("token", part=4).max("part")
        p.lo = p.k.split("token", part=4).min("part")

    one = theirs(
        'a = self.k1(q, cache["hi"], ctx=ctx); b = self.k2(q, cache["lo"], ctx=ctx); t = self.s(self.x(a, b, ctx=ctx), ctx=ctx); s = self.m(t, ctx=ctx)'
        + END,
        "k1=Kron(dim=1), k2=Kron(dim=1), x=Maximum(), s=Sum(dim=2), m=Max(dim=1), hi=MaxInterleave(dim=1, k=4), lo=MinInterleave(dim=1, k=4)",
        'self.hi(cache["k"], cache["hi"], loc=loc, ctx=ctx); self.lo(cache["k"], cache["lo"], loc=loc, ctx=ctx)',
        '"hi": (block_size // 4, head_dim), "lo": (block_size // 4, head_dim)',
    )
    other = ours(lambda q, p, s: vx.maximum(q * p.hi, q * p.lo).sum("dim").max("token").max("head"), summarize)
    assert_same(one, other)


def test_kron_and_reshape_put_elements_in_their_places():
    """Of the product of 8 × 2 with 2 × 8 tokens, the element at (3, 6): x[1, 0] · x[1, 6], the tokens 2 and 14."""

    def summarize(p):
        p.x = p.k.max("dim")

    token = lambda p, i: p.x.slice("token", i, i + 1).sum("token")
    one = theirs(
        'w = self.k(self.ra(cache["x"], ctx=ctx), self.rb(cache["x"], ctx=ctx), ctx=ctx); '
        "w = self.y(self.x(w, self.m1(w, ctx=ctx), ctx=ctx), self.m2(w, ctx=ctx), ctx=ctx); "
        "s = self.s(self.rf(w, ctx=ctx), ctx=ctx)" + END,
        "ra=Reshape(-1, 8, 2), rb=Reshape(-1, 2, 8), k=Kron(), m1=MaskSlice(3, 4, 1), m2=MaskSlice(6, 7, 2), "
        "x=Multiply(), y=Multiply(), rf=Reshape(-1, 1, 256), s=Sum(dim=2), c=CMax(dim=2), r=CReshape(-1, 1, 16)",
        'self.r(self.c(cache["k"], loc=loc, ctx=ctx), cache["x"], loc=loc, ctx=ctx)',
        '"x": (1, block_size)',
    )
    assert_same(one, ours(lambda q, p, s: token(p, 2) * token(p, 14), summarize))


def test_conv1d_with_a_weight_for_each_row():
    """Rows of two sub-blocks; each has taps of its own."""

    def summarize(p):
        p.x = p.k.max("dim").split("token", part=8).max("part")

    def score(q, p, s):
        first, second = (p.x.slice("token", i, i + 1).sum("token") for i in (0, 1))
        return vx.maximum(first + 2 * first.shift(1), 3 * second + 4 * second.shift(1))

    one = theirs(
        's = self.m(self.c(self.a(cache["x"], ctx=ctx), ctx=ctx), ctx=ctx)' + END,
        "a=Add_Mul(), c=Conv1d([[[2.0], [4.0]], [[1.0], [3.0]]]), m=Max(dim=1), d=CMax(dim=2), i=MaxInterleave(dim=1, k=8)",
        'self.i(self.d(cache["k"], loc=loc, ctx=ctx), cache["x"], loc=loc, ctx=ctx)',
        '"x": (block_size // 8, 1)',
    )
    assert_same(one, ours(score, summarize))
