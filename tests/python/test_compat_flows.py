"""The structures of the flows published with vortex_torch: each equals the same algorithm in the language, in the interpreter, on the
CPU backend and in the engine; JSON configs; what is refused, in which words."""

import json
from pathlib import Path

import numpy as np
import pytest
import vortex_attention as vx
from reference.deepseek import Config
from reference.random_model import random_llama
from test_compat import Ours, assert_same, chosen, dot, ours
from test_latent_attention import build
from vortex_attention import _core, flows
from vortex_attention.cli.app import main
from vortex_attention.compat import config
from vortex_attention.language import tracer
from vortex_attention.models import load_model

FOLDER = Path(__file__).parent / "compat"


def theirs(name: str, file: str = "flows.py", **settings) -> _core.Program:
    text = tracer.trace_source((FOLDER / file).read_text(), file, name, settings)
    return _core.parse_flow(text)


def envelope(page):
    page.hi, page.lo = page.k.max("token"), page.k.min("token")


def bound(q, p):
    return vx.maximum(q * p.hi, q * p.lo).sum("dim")


def both(page):
    envelope(page)
    page.mean = page.k.mean("token")


def sub_envelope(page):
    parts = page.k.split("token", part=4)
    page.hi, page.lo = parts.max("part"), parts.min("part")


def sub_mean(page):
    page.x = page.k.split("token", part=4).mean("part")


def energy(page):
    page.mean, page.energy = page.k.mean("token"), page.v.norm("dim").mean("token")


def keys(page):
    page.x = page.k


def count(q):
    return vx.where(q.max("head"), 1.0, 1.0).sum("dim")


near = lambda q, p: dot(q.mean("head"), p.mean)
masked = lambda q: vx.where((vx.where(q, 1.0, 1.0).cumsum("dim") <= 8), 0.0, 1.0) * q

FLOWS = {
    "block_sparse": (lambda q, p, s: near(q, p), None),
    "block_sparse_native": (lambda q, p, s: near(q, p), None),
    "gqa_block_sparse": (lambda q, p, s: (dot(q, p.mean) * 0.09).softmax("page").max("head"), None),
    "gqa_block_sparse_in_place": (lambda q, p, s: (dot(q, p.mean) * 0.09).softmax("page").max("head"), None),
    "gqa_quest": (lambda q, p, s: bound(q, p).max("head"), envelope),
    "masked_quest": (lambda q, p, s: bound(masked(q), p).max("head"), envelope),
    "sub_block_quest": (lambda q, p, s: bound(q, p).max("token").max("head"), sub_envelope),
    "sub_block_centroid": (lambda q, p, s: dot(q.mean("head"), p.x).max("token"), sub_mean),
    "centered": (lambda q, p, s: dot(q, p.mean).mean("head") - dot(q, p.mean).mean("head").mean("page"), None),
    "value_energy": (lambda q, p, s: near(q, p) * p.energy, energy),
    "heavy_hitter_blocks": (lambda q, p, s: near(q, p) + 0.5 * bound(q.mean("head"), p), both),
    "gqa_heavy_hitter_blocks": (lambda q, p, s: dot(q, p.mean).max("head") + 0.5 * bound(q, p).max("head"), both),
    "whole_keys": (lambda q, p, s: (dot(q, p.x) * count(q) ** -0.5).softmax("page").max("token").max("head"), keys),
    "filled": (lambda q, p, s: near(q, p) + 2.0, None),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_published_flow(name):
    score, summarize = FLOWS[name]
    assert_same(theirs(name), ours(score, summarize))


def test_two_streams():
    def score(q, p, s):
        return dot(q, p.mean).max("head"), bound(q, p).max("head")

    other = ours(score, both, select=lambda self, score: vx.top_k(score[0], 6) | vx.top_k(score[1], 5))
    mine, expected = chosen(theirs("two_streams")), chosen(other)
    assert np.array_equal(mine[0], expected[0]) and mine[1:] == expected[1:]
    assert 6 < np.sum(expected[0]) <= 11


def test_approximate_top_k_has_its_recall():
    text = theirs("block_sparse_approximate").text()
    assert "approx_top_k" in text and "recall=0.85" in text


LATENT = {
    "rope_aware": lambda q, p, s: near(q, p),
    "rope_unaware": lambda q, p, s: dot(q.mean("head").slice("dim", 0, 48), p.mean.slice("dim", 0, 48)),
    "rope_weighted": lambda q, p, s: (
        0.75 * dot(q.mean("head").slice("dim", 0, 48), p.mean.slice("dim", 0, 48))
        + 0.25 * dot(q.mean("head").slice("dim", 48, 64), p.mean.slice("dim", 48, 64))
    ),
}


@pytest.mark.parametrize("name", LATENT)
def test_a_latent_flow(name):
    assert_same(theirs(name, "latent_flows.py"), ours(LATENT[name]), dim=64, value_dim=48)


def test_latent_sub_blocks_and_quest():
    sizes = dict(dim=64, value_dim=48)
    assert_same(theirs("latent_sub_blocks", "latent_flows.py"), ours(FLOWS["sub_block_centroid"][0], sub_mean), **sizes)
    score = lambda q, p, s: dot(q.mean("head").relu(), p.hi) + dot(q.mean("head") - q.mean("head").relu(), p.lo)
    assert_same(theirs("latent_quest", "latent_flows.py"), ours(score, envelope), **sizes)


def test_what_a_latent_flow_takes_for_granted_is_checked():
    program = theirs("rope_unaware", "latent_flows.py")
    program.verify_for(64, 4, 48)
    with pytest.raises(vx.UserError, match=r"latent_flows.py:\d+\] slice must stay inside the axis"):
        program.verify_for(64, 4, 40)
    with pytest.raises(vx.UserError, match=r"latent_flows.py:\d+\] the size of \"dim\", value_dim/48, must be whole"):
        program.verify_for(80, 4, 64)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_model(random_llama(tmp_path_factory.mktemp("compat") / "tiny.gguf", seed=4), threads=1)


@pytest.mark.parametrize(
    "name", ["gqa_block_sparse", "gqa_quest", "sub_block_quest", "gqa_heavy_hitter_blocks", "two_streams"]
)
def test_the_engine_attends_the_same_pages(loaded, name):
    """Through a JSON config's settings: 5 chosen blocks beside one first and two last ones, every layer sparse."""
    bench = _core.Workbench(loaded.model, page_size=16, pages=256, max_batch=4, threads=2)
    small = {"topk_val": 5, "layers_skip": []}
    if name == "two_streams":
        select = dict(select=lambda self, score: vx.top_k(score[0], 6) | vx.top_k(score[1], 5))
        other = ours(lambda q, p, s: (dot(q, p.mean).max("head"), bound(q, p).max("head")), both, **select)
    else:
        other = ours(*FLOWS[name])
    other = other.with_settings({"budget": "8", "full_attention_layers": "none"})
    tokens = [int(t) for t in np.random.default_rng(5).integers(0, loaded.config.vocabulary, 470)]
    base = bench.prefill(tokens)
    arms = [bench.fork(base, bench.load_flow(flow)) for flow in (theirs(name, **small), other)]
    bench.record_pages(True)
    logits = bench.decode(arms, [7, 7])
    lists = [
        [
            bench.page_list(arm, layer, head)
            for layer in range(loaded.config.layers)
            for head in range(loaded.config.kv_heads)
        ]
        for arm in arms
    ]
    assert lists[0] == lists[1] and np.array_equal(logits[0], logits[1])
    assert all(8 <= len(one) < 30 for one in lists[0]) and len({tuple(one) for one in lists[0]}) > 1


@pytest.mark.parametrize("name", ["rope_aware", "latent_sub_blocks", "rope_weighted"])
def test_the_engine_attends_the_same_pages_of_a_latent(name):
    """A DeepSeek-style model whose latent has as many channels as rope_weighted takes for granted."""
    shape = Config(latent=48, rope=16)
    bench = _core.Workbench(build(shape)[0], page_size=16, pages=128, max_batch=2, threads=1)
    score, summarize = (LATENT[name], None) if name in LATENT else (FLOWS["sub_block_centroid"][0], sub_mean)
    other = ours(score, summarize).with_settings({"budget": "8", "full_attention_layers": "none"})
    mine = theirs(name, "latent_flows.py", topk_val=5, layers_skip=[])
    base = bench.prefill([int(t) for t in np.random.default_rng(2).integers(0, shape.vocabulary, 400)])
    arms = [bench.fork(base, bench.load_flow(flow)) for flow in (mine, other)]
    bench.record_pages(True)
    logits = bench.decode(arms, [7, 7])
    lists = [[bench.page_list(arm, layer, 0) for layer in range(shape.layers)] for arm in arms]
    assert lists[0] == lists[1] and np.array_equal(logits[0], logits[1])
    assert [len(one) for one in lists[0]] == [8] * shape.layers and len({tuple(one) for one in lists[0]}) > 1


def test_a_config_loads_as_a_flow(tmp_path, monkeypatch):
    flow = flows.load(FOLDER / "quest.json")
    assert (flow.name, flow.config.budget, flow.config.sinks, flow.config.recent) == ("quest", 8, 1, 2)
    assert flow.config.full_attention_layers == [] and "class GqaQuest" in flow.source
    assert flow.hash == theirs("gqa_quest", topk_val=5, layers_skip=[]).hash
    assert vx.load_flow(FOLDER / "quest.json", budget=64, page_size=32).config.page_size == 32
    assert vx.load_flow(f"{FOLDER / 'flows.py'}:gqa_quest").hash == vx.load_flow(f"{FOLDER / 'flows.py'}:GqaQuest").hash
    (tmp_path / "deep").mkdir()
    asked = json.loads((FOLDER / "quest.json").read_text())
    for place in (tmp_path / "deep", tmp_path):  # beside the JSON, in the working directory or above, in that order
        monkeypatch.chdir(tmp_path if place == tmp_path else "/")
        (tmp_path / "deep" / "x.json").write_text(json.dumps(asked))
        (place / "flows.py").write_text((FOLDER / "flows.py").read_text())
        assert vx.load_flow(tmp_path / "deep" / "x.json").name == "GqaQuest"
        (place / "flows.py").unlink()


def test_sub_blocks_follow_a_page_size_from_outside():
    program = vx.load_flow(f"{FOLDER / 'flows.py'}:sub_block_centroid", page_size=32)
    assert program.summaries == {"centers": "f32[token=8, dim] @page"}


def test_a_config_of_the_older_line(tmp_path):
    path = tmp_path / "old.json"
    older = {
        "vortex_page_size": 8,
        "vortex_page_reserved_bos": 2,
        "vortex_page_reserved_eos": 3,
        "vortex_topk_type": "naive",
    }
    path.write_text(
        json.dumps(
            {"vortex_module_path": str(FOLDER / "flows.py"), "vortex_module_name": "block_sparse_native", **older}
        )
    )
    settings = vx.load_flow(path).config
    assert (settings.page_size, settings.budget, settings.sinks, settings.recent) == (8, 34, 2, 3)
    assert settings.full_attention_layers == [0]
    assert config.read(path.read_text(), str(path)).unused == ["vortex_topk_type"]


def test_a_schedule_policy_is_the_budget(tmp_path):
    policy = "int dynamic = cached_block_len * topk_ratio; return max(topk_val + block_reserved_bos + block_reserved_eos, dynamic);"
    asked = {
        "module_path": str(FOLDER / "flows.py"),
        "module_name": "gqa_quest",
        "topk_ratio": 0.25,
        "schedule_policy": policy,
    }
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(asked))  # without the prefix, as its command takes it
    program = vx.load_flow(path)
    assert [program.rows(tokens, layer=1)["attended"] for tokens in (16 * 100, 16 * 400)] == [32, 100]


class Running(Ours):
    def score(self, q, page, layer):
        running = page.keep("running", 0.0)
        now = 0.5 * running + near(q / layer.scale, page)
        running.set(now)
        return now


class HeavyHitterTokens(Ours):
    page_size = 1

    def summarize(self, page):
        page.x = page.k.sum("token")

    def score(self, q, page, layer):
        q = q / layer.scale
        gathered = page.keep("gathered", 0.0)
        now = (dot(q, page.x) * count(q) ** -0.5).softmax("page").max("head") + 0.984375 * gathered
        gathered.set(now)
        return now


class Drifting(Ours):
    def score(self, q, page, layer):
        q = q.mean("head") / layer.scale
        saved, kept = page.keep("saved", 0.0), page.keep("kept", 0.0, "dim")
        now = vx.where(saved, kept, page.mean)
        kept.set(0.75 * now + 0.25 * q)
        saved.set(1.0)
        return dot(q, now)


@pytest.mark.parametrize(
    "name, flow",
    [("running_average", Running), ("heavy_hitter_tokens", HeavyHitterTokens), ("drifting_centers", Drifting)],
)
def test_what_is_saved_comes_back_in_the_next_step(loaded, name, flow):
    """Six steps of a flow with a Save beside the same in the language: equal lists and equal logits, which the saved numbers move."""
    page = flow.page_size
    bench = _core.Workbench(loaded.model, page_size=page, pages=4 * 512 // page, max_batch=4, threads=2)
    mine = theirs(name, topk_val=5, layers_skip=[], block_size=page)
    other = vx.trace(flow).with_settings({"budget": "8", "full_attention_layers": "none"})
    base = bench.prefill([int(t) for t in np.random.default_rng(5).integers(0, loaded.config.vocabulary, 300)])
    arms = [bench.fork(base, bench.load_flow(one)) for one in (mine, other)]
    bench.record_pages(True)
    seen = []
    for token in (7, 9, 7, 11, 5, 7):
        logits = bench.decode(arms, [token, token])
        lists = [
            [
                bench.page_list(arm, layer, head)
                for layer in range(loaded.config.layers)
                for head in range(loaded.config.kv_heads)
            ]
            for arm in arms
        ]
        assert lists[0] == lists[1] and np.array_equal(logits[0], logits[1])
        seen.append(lists[0])
    assert seen[0] != seen[2] != seen[5]
    bench.check_integrity()


HEAD = """from vortex_torch.flow import vFlow, vFlowMLA, register
from vortex_torch.indexer import *
from vortex_torch.cache import Mean as CMean, MeanInterleave, Fill as CFill

@register("case")
class Case(vFlow):
    def __init__(self):
        super().__init__()
        self.mean, self.gemm, self.max, self.out, self.center = Mean(dim=1), GeMM(), Max(dim=2), topK(), CMean(dim=1)
    def create_cache(self, block_size, head_dim):
        return {"x": (1, head_dim)}
    def forward_cache(self, cache, loc, ctx):
        self.center(cache["k"], cache["x"], loc=loc, ctx=ctx)
    def forward_indexer(self, q, o, cache, ctx):
        s = self.max(self.gemm(q, cache["x"], ctx=ctx), ctx=ctx)
        self.out(s, o, ctx=ctx)
"""
ERRORS = {  # what takes the place of what → the words
    (
        "self.out(s, o, ctx=ctx)",
        "pass",
    ): "[case.py:14] forward_indexer ends in a choice: topK, approxTopK or Union; none; say self.output_func(score, o, ctx=ctx)",
    (
        "self.out(s, o, ctx=ctx)",
        "self.out(s, o, ctx=ctx); self.out(s, o, ctx=ctx)",
    ): "[case.py:16] forward_indexer ends in one topK, approxTopK or Union; a second one, topK; leave one out",
    (
        "self.out(s, o, ctx=ctx)",
        "self.out(s, ctx=ctx)",
    ): "[case.py:16] topK of vortex_torch.indexer writes into o; 1 operands without it; pass the o of forward_indexer last",
    (
        'self.max(self.gemm(q, cache["x"], ctx=ctx), ctx=ctx)',
        'self.gemm(q, cache["x"], ctx=ctx)',
    ): "[case.py:16] topK of vortex_torch.indexer takes one number a block, [S, 1, 1]; vTensor[S, 1, the number of query heads]; reduce its inner axes with Max, Mean or Sum",
    (
        'cache["x"], ctx=ctx), ctx=ctx)',
        "q, ctx=ctx), ctx=ctx)",
    ): "[case.py:16] topK of vortex_torch.indexer takes one number a block, [S, 1, 1]; vTensor[B, the number of query heads, 1]; make it from a cache field",
    (
        "(1, head_dim)}",
        "(2, head_dim)}",
    ): '[case.py:13] cache["x"] [S, 2, head_dim] takes a tensor of its size; vTensor[S, 1, head_dim]; declare "x": (1, head_dim) in create_cache, or reduce the tensor',
    (
        '{"x": (1, head_dim)}',
        '{"x": (1, head_dim), "k": (1, 1)}',
    ): "[case.py:10] create_cache must not declare 'k' key: the engine has it; \"k\"; leave it out",
    (
        '{"x": (1, head_dim)}',
        '{"x": head_dim}',
    ): "[case.py:10] a field has a name and two whole sizes; 'x': head_dim; say \"mean\": (1, head_dim)",
    (
        '{"x": (1, head_dim)}',
        '{"x": (1, int(head_dim))}',
    ): "[case.py:11] head_dim is known when the flow meets a model: sums, multiples, // and == of it can be said; the number itself; say the number itself if the flow is for one kind of model",
    (
        'cache["k"], cache["x"]',
        'cache["key"], cache["x"]',
    ): "[case.py:13] cache has k, v, x; 'key'; declare it in create_cache",
    (
        'cache["k"], cache["x"]',
        'cache["k"]',
    ): '[case.py:15] a field is written in forward_cache before it is read; cache["x"], which nothing writes; write it there',
    (
        'cache["k"], cache["x"]',
        'cache["x"], cache["x"]',
    ): '[case.py:13] forward_cache reads k, v and what its ops made; fields hold what an earlier call wrote; cache["x"] as an operand; keep the tensor that the op returned: x = op(cache["k"], loc=loc, ctx=ctx)',
    (
        'self.center(cache["k"]',
        'self.mean(cache["k"]',
    ): "[case.py:13] Mean of vortex_torch.indexer works in forward_indexer; forward_cache; import the op of that name from vortex_torch.cache",
    (
        "CMean(dim=1)",
        "CMean(dim=0)",
    ): "[case.py:9] Mean of vortex_torch.cache takes dim 1 or 2; dim=0; reduce over blocks in forward_indexer",
    (
        "CMean(dim=1)",
        "MeanInterleave(dim=1, k=5)",
    ): "[case.py:13] MeanInterleave of vortex_torch.cache needs runs that divide the axis; 16 elements in runs of 5; choose a divisor",
    (
        "Max(dim=2)",
        "Max(dim=0)",
    ): "[case.py:16] topK of vortex_torch.indexer takes one number a block, [S, 1, 1]; vTensor[B, 1, the number of query heads]; make it from a cache field",
    ("Max(dim=2)", "Softmax(dim=1)"): "[case.py:9] Softmax of vortex_torch.indexer takes dim 0; dim=1; say dim=0",
    (
        "Max(dim=2)",
        "Sigmoid('a')",
    ): "[case.py:15] Sigmoid of vortex_torch.indexer takes a number as alpha; str 'a'; give a number",
    (
        "Max(dim=2)",
        "MaskSlice(0, 40, 1)",
    ): "[case.py:15] MaskSlice of vortex_torch.indexer stays inside the axis; end=40 of 1; choose a shorter run",
    (
        "Max(dim=2)",
        "Reshape(-1, 3, 5)",
    ): "[case.py:15] Reshape of vortex_torch.indexer keeps the number of elements of a tensor, as far as it is known before the flow meets a model; vTensor[S, 1, the number of query heads] to [-1, 3, 5]; say sizes that multiply to those of the tensor",
    (
        "Max(dim=2)",
        "approxTopK(1.0)",
    ): "[case.py:9] approxTopK of vortex_torch.indexer takes a tolerate_ratio from 0 to below 1; 1.0; say tolerate_ratio=0.1",
    (
        "Max(dim=2)",
        "Kron(dim=3)",
    ): "[case.py:9] Kron of vortex_torch.indexer takes dim 1, 2 or (1, 2); dim=3; say dim=1",
    ("import *", "import Meen"): "[case.py:2] vortex_torch.indexer has Mean, Max, ",
    (
        "Fill as CFill",
        "Sum as CSum",
    ): "[case.py:3] vortex_torch.cache as far as it maps onto the language; Sum; use Mean and multiply by the size of the axis, as in vortex_torch",
    (
        "from vortex_torch.flow",
        "import vortex_torch.engine\nfrom vortex_torch.flow",
    ): "[case.py:1] a flow file imports vortex_torch.indexer, vortex_torch.cache, vortex_torch.flow, vortex_torch.abs; vortex_torch.engine; docs/compat.md lists what maps",
    (
        "from vortex_torch.flow",
        "import torch; torch.zeros(3)\nfrom vortex_torch.flow",
    ): "[case.py:1] torch as far as annotations need it: Tensor, dtype, device and the names of element types; torch.zeros; use the ops of vortex_torch; learned weights belong in a file of their own",
    (
        "        s = self.max",
        "        q.softmax(dim=1)\n        s = self.max",
    ): "[case.py:15] a tensor goes through the ops of vortex_torch; of torch itself it knows mean, sum, amax, amin with keepdim=True, and arithmetic; .softmax; use an op of vortex_torch.indexer or vortex_torch.cache",
    (
        "        s = self.max",
        "        q.mean(dim=1)\n        s = self.max",
    ): "[case.py:15] tensors have three axes: a reduction of torch says dim=1 or dim=2 and keepdim=True; dim=1, keepdim=False; say .mean(dim=1, keepdim=True)",
    (
        "        s = self.max",
        "        q = q if q else q\n        s = self.max",
    ): "[case.py:15] a flow is traced once for all pages, so it cannot branch on a tensor; if, while, and, or, not; use the Where ops, Maximum or Minimum",
    (
        "        s = self.max",
        "        ctx.topk_val\n        s = self.max",
    ): "[case.py:15] ctx is passed on to the ops; a flow does not look into it; ctx.topk_val; leave it out; budgets and reserved blocks are settings",
    (
        "        s = self.max",
        "        self.gemm(q, 3, ctx=ctx)\n        s = self.max",
    ): "[case.py:15] GeMM of vortex_torch.indexer takes tensors of the flow; int 3; pass q, a cache field or what an op made",
    (
        "        s = self.max",
        '        self.gemm(self.mean(self.gemm(q, q, ctx=ctx), ctx=ctx), cache["x"], ctx=ctx)\n        s = self.max',
    ): "[case.py:15] GeMM of vortex_torch.indexer multiplies along the last dimension, which both have alike; vTensor[B, 1, the number of query heads] and vTensor[S, 1, head_dim]; transpose or reshape one of them",
    (
        '@register("case")',
        '@register("case")\n@register("case")',
    ): '[case.py:5] a name is registered once; "case" a second time; choose another name',
    (
        "    def create_cache",
        "    def create_request_cache(self):\n        return {}\n    def create_cache",
    ): "[case.py:10] a flow has create_cache, forward_cache and forward_indexer; create_request_cache, fields of a request; say what is remembered of a block in create_cache",
    (
        "self.out(s, o, ctx=ctx)",
        "Save()(s, cache['x'], ctx=ctx); self.out(s, o, ctx=ctx)",
    ): '[case.py:16] cache["x"] [S, 1, head_dim] takes a tensor of its size; vTensor[S, 1, 1]; declare "x": (1, 1) in create_cache, or reduce the tensor',
    (
        "self.out(s, o, ctx=ctx)",
        "Load()(s, ctx=ctx); self.out(s, o, ctx=ctx)",
    ): '[case.py:16] Load of vortex_torch.indexer takes a field of create_cache; vTensor[S, 1, 1]; give it cache["name"]',
    (
        "self.out(s, o, ctx=ctx)",
        "Save()(s, s, ctx=ctx); self.out(s, o, ctx=ctx)",
    ): '[case.py:16] Save of vortex_torch.indexer takes a tensor and the field that keeps it; vTensor[S, 1, 1] and vTensor[S, 1, 1]; say op(x, cache["name"], ctx=ctx)',
    (
        '{"x": (1, head_dim)}',
        '{"x": (1, head_dim), "y": (1, 1)}',
        "self.out(s, o, ctx=ctx)",
        "Save()(s, cache['y'], ctx=ctx); self.out(s, o, ctx=ctx)",
    ): '[case.py:16] what is saved starts with what forward_cache writes; cache["y"], which nothing writes there; fill it: self.fill = CFill(0.0); self.fill(cache["y"], loc=loc, ctx=ctx)',
    (
        "self.out(s, o, ctx=ctx)",
        "Save()(q, cache['k'], ctx=ctx); self.out(s, o, ctx=ctx)",
    ): '[case.py:16] k, v and latent are the engine\'s; an op that writes cache["k"]; write a field of create_cache',
    (
        "self.out(s, o, ctx=ctx)",
        "m = self.mean(q, ctx=ctx); Save()(m, cache['x'], ctx=ctx); Save()(m, cache['x'], ctx=ctx); self.out(s, o, ctx=ctx)",
    ): '[case.py:16] a field is saved once a step; cache["x"] a second time; leave one out',
    (
        "Max(dim=2)",
        "Conv1d([1.0, 2.0])",
    ): "[case.py:9] Conv1d of vortex_torch.indexer takes its weight as a nested list of numbers [K, D0, D1], 1 to 64 of each; [1.0, 2.0]; say Conv1d([[[0.25]], [[0.5]], [[0.25]]])",
    (
        "Max(dim=2)",
        "Conv1d([[[1.0, 2.0, 3.0]]])",
    ): "[case.py:15] Conv1d of vortex_torch.indexer has a weight for each element, or one for all; vTensor[S, 1, the number of query heads] with 3 in D1; give one for all",
}


@pytest.mark.parametrize("change", ERRORS)
def test_errors_say_what_to_do(change):
    source = HEAD
    for old, new in zip(change[::2], change[1::2]):
        assert old in source
        source = source.replace(old, new, 1)
    with pytest.raises(vx.UserError) as caught:
        _core.parse_flow(tracer.trace_source(source, "case.py", None))
    words = ERRORS[change]
    assert str(caught.value) == words or words.endswith(", ") and str(caught.value).startswith(words)


CONFIG_ERRORS = {
    '{"vortex_module_path": }': "[x.json] a config is valid JSON; Expecting value: line 1 column 24 (char 23); correct it",
    '{"model_path": "a"}': '[x.json module_path] the path of a flow file; nothing; give it, say "quest.py"',
    '{"vortex_module_path": ""}': '[x.json vortex_module_path] a text that is not empty; ""; give the name',
    '{"vortex_module_path": "no.py"}': "[x.json vortex_module_path] a flow file beside the JSON, in the working directory or in a folder above the JSON; no.py; check the path",
    '{"vortex_topk_vall": 3}': "[x.json vortex_topk_vall] a setting of vortex_torch; vortex_topk_vall; did you mean vortex_topk_val?",
    '{"vortex_block_size": 2.5}': "[x.json vortex_block_size] a whole number of at least 1; 2.5; give such a number",
    '{"vortex_topk_val": true}': "[x.json vortex_topk_val] a whole number of at least 1; true; give such a number",
    '{"vortex_block_reserved_eos": 0}': "[x.json vortex_block_reserved_eos] a whole number of at least 1; 0; give such a number",
    '{"vortex_topk_ratio": 2}': "[x.json vortex_topk_ratio] a share from 0 to 1; 2; give such a number",
    '{"vortex_layers_skip": 3}': "[x.json vortex_layers_skip] a list of layer numbers; 3; say [0] or []",
    '{"vortex_dtype": "float8_e5m2"}': "[x.json vortex_dtype] bfloat16 or float32: fields are stored in one of them; float8_e5m2; say bfloat16",
    '{"vortex_schedule_policy": 3}': "[x.json vortex_schedule_policy] the body of a CUDA C++ function; 3; say return topk_val + block_reserved_bos + block_reserved_eos;",
    '{"vortex_block_size": 16, "vortex_page_size": 16}': "[x.json vortex_page_size] a setting is given once; also by its other name; leave one out",
}


@pytest.mark.parametrize("text", CONFIG_ERRORS)
def test_errors_of_configs(text):
    with pytest.raises(vx.UserError) as caught:
        config.read(text, "x.json")
    assert str(caught.value) == CONFIG_ERRORS[text]


def test_a_name_that_is_not_registered(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"vortex_module_path": str(FOLDER / "flows.py"), "vortex_module_name": "gqa_qest"}))
    with pytest.raises(
        vx.UserError, match="a flow called gqa_qest; the file defines .*; did you mean .*flows.py:gqa_quest"
    ):
        vx.load_flow(path)


def test_a_file_of_vortex_torch_itself_imports_by_dots():
    source = HEAD.replace(
        "from vortex_torch.flow import vFlow, vFlowMLA, register",
        "from .flow import vFlow\nfrom .registry import register",
    )
    source = source.replace("vortex_torch.indexer", "..indexer").replace("vortex_torch.cache", "..cache")
    programs = [_core.parse_flow(tracer.trace_source(text, "case.py", None)) for text in (source, HEAD)]
    assert programs[0].hash == programs[1].hash


def run(capsys, *arguments) -> dict:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_command_takes_a_config(tmp_path, capsys, monkeypatch):
    model = random_llama(tmp_path / "tiny.gguf", context=1024)
    quest = FOLDER / "quest.json"
    checked = run(capsys, "check", quest, "--model", model, "--context", "512")
    assert checked["name"] == "GqaQuest" and checked["summaries"] == {"hi": "f32[dim] @page", "lo": "f32[dim] @page"}
    assert checked["unused"][0] == "model_path" and "vortex_impl_backend" in checked["unused"]
    assert main(["check", str(quest), "--model", str(model), "--context", "512"]) == 0
    assert "not used   model_path, vortex_workload_chunk_size," in capsys.readouterr().out
    raw = run(capsys, "generate", "hello world " * 20, "--model", model, "--flow", quest, "--raw", "--max-tokens", "3")
    assert raw["tokens"] or "text" in raw
    bench = run(
        capsys,
        "bench",
        quest,
        "--model",
        model,
        "--context",
        "256",
        "--batch",
        "1",
        "--rounds",
        "1",
        "--steps",
        "1",
        "--ledger",
        "none",
    )
    assert [arm["name"] for arm in bench["speed"][0]["arms"]] == ["full", "quest"]
    monkeypatch.setattr("vortex_attention.cli.measure.natural_text", lambda: "A sentence of a few words. " * 400)
    little = ("--items", "1", "--length", "800", "--no-controls", "--snapshots", "0", "--ledger", "none")
    answers = run(capsys, "eval", quest, "--model", model, *little)
    assert [arm["name"] for arm in answers["arms"]] == ["full", "quest"]
