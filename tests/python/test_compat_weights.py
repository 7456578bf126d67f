"""Learned weights of flows written for vortex_torch, beside the same algorithm in the language."""

import numpy as np
import pytest
from reference.random_model import random_llama

import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.formats.safetensors_file import write
from vortex_attention.models import load_model

FILE = """import torch
from safetensors.torch import load_file
from vortex_torch.flow import vFlow, register
from vortex_torch.indexer import *
from vortex_torch.cache import Mean as CMean

W = load_file("w.safetensors")

@register("case")
class Case(vFlow):
    def __init__(self):
        super().__init__()
        OPS
        self.cmean, self.mean, self.dot, self.out = CMean(dim=1), Mean(dim=1), GeMM(), topK()

    def forward_indexer(self, q, o, cache, ctx):
        query = INDEXER
        self.out(self.dot(query, cache["mean"], ctx=ctx), o, ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        self.cmean(cache["k"], cache["mean"], loc=loc, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        return {"mean": (1, head_dim)}
"""


def theirs(tmp_path, ops, indexer):
    path = tmp_path / "case.py"
    path.write_text(FILE.replace("OPS", ops).replace("INDEXER", indexer))
    return vx.load_flow(path)


class Ours(vx.vFlow):
    budget, full_attention_layers = 32, [0]

    def summarize(self, page):
        page.mean = page.k.mean("token")


def ours(tmp_path, score):
    program = vx.trace(type("Ours", (Ours,), {"score": lambda self, q, page, layer: score(q / layer.scale, page)}))
    from vortex_attention.language.parameters import read_weights

    return program.with_weights(read_weights(tmp_path / "w.safetensors", program))


PARAMETER = (
    "self.w, self.project, self.turn = Parameter(W['p']), GeMM(), Transpose()",
    "self.turn(self.project(self.mean(q, ctx=ctx), self.w, ctx=ctx), ctx=ctx)",
)
LEARNED = ("self.query = LearnedQuery(W['q'], W['k'], scaling=0.5)", "self.query(q, ctx=ctx)")


def learned(q, page):
    low = vx.dot(q, vx.param("q", "head", "dim", rank=3), over="dim")
    back = vx.dot(low, vx.param("k", "head", "dim", rank=3), over="rank").sum("head") * 0.5
    return vx.dot(back, page.mean, over="dim")


def weights(tmp_path, layers, group, dim):
    random = np.random.default_rng(0)
    arrays = {
        "p": random.standard_normal((layers, dim, dim)),
        "q": random.standard_normal((layers, group, dim, 3)),
        "k": random.standard_normal((layers, group, dim, 3)),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    write(tmp_path / "w.safetensors", arrays)
    return arrays


def test_parameter_is_a_matrix_of_the_layer(tmp_path):
    layers, group, dim = 4, 3, 24
    arrays = weights(tmp_path, layers, group, dim)
    random = np.random.default_rng(1)
    k, q = random.standard_normal((40, 16, dim), np.float32), random.standard_normal((group, dim), np.float32)
    scale = 0.25
    for kind, layer in ((PARAMETER, 0), (PARAMETER, 3), (LEARNED, 0), (LEARNED, 2)):
        program = theirs(tmp_path, *kind)
        assert program.weights_file == "w.safetensors" and program.has_weights
        flow = _core.cpu_flow(program, dim, group, without=["canonicalize"])
        summaries = flow.summarize(k, k)
        mean = summaries["mean"].astype(float).reshape(40, dim)
        query = q.astype(float) / scale
        if kind is PARAMETER:
            expected = mean @ (arrays["p"][layer].astype(float) @ query.mean(0))
        else:
            low = np.einsum("hdr,hd->hr", arrays["q"][layer].astype(float), query)
            expected = 0.5 * mean @ np.einsum("hdr,hr->d", arrays["k"][layer].astype(float), low)
        wide = {name: value.astype(float) for name, value in summaries.items()}
        places = dict(layer=layer, layers=layers, scale=scale)
        exact = _core.interpret_scores(program, q.astype(float), wide, list(range(40)), **places)
        np.testing.assert_allclose(exact, expected, rtol=1e-9)
        fast = flow.scores(q, summaries, **places)
        assert np.abs(fast - expected).max() < 1e-4 * np.abs(expected).max()


def test_in_the_engine_it_is_the_flow_of_the_language(tmp_path):
    loaded = load_model(random_llama(tmp_path / "tiny.gguf", seed=4), threads=1)
    shape = loaded.config.attention
    weights(tmp_path, loaded.config.layers, shape.group, shape.head_dim)
    bench = _core.Workbench(loaded.model, page_size=16, pages=200, max_batch=4, threads=1)
    base = bench.prefill([int(t) for t in np.random.default_rng(3).integers(0, loaded.config.vocabulary, 400)])
    bench.record_pages(True)
    programs = [
        program.with_settings({"budget": "8"}) for program in (theirs(tmp_path, *LEARNED), ours(tmp_path, learned))
    ]
    arms = [bench.fork(base, bench.load_flow(program)) for program in programs]
    bench.decode(arms, [5, 5])
    lists = [
        [bench.page_list(arm, layer, head) for layer in range(loaded.config.layers) for head in range(shape.kv_heads)]
        for arm in arms
    ]
    assert lists[0] == lists[1] and any(len(row) == 8 for row in lists[0])


ERRORS = {
    "another file": (
        FILE.replace('load_file("w.safetensors")', 'load_file("v.safetensors")'),
        "[case.py:7] weights are a safetensors file beside the flow, whose name stands in its text; 'v.safetensors'; say load_file(\"weights.safetensors\")",
    ),
    "another tensor": (
        FILE.replace("OPS", "self.w = Parameter(W['pp'])"),
        "[case.py:13] the file has k, p, q; 'pp'; did you mean \"p\"?",
    ),
    "no tensor of a file": (
        FILE.replace("OPS", "self.w = Parameter([[1.0]])"),
        '[case.py:13] Parameter takes a tensor of a safetensors file; list [[1.0]]; say load_file("weights.safetensors")["w"]',
    ),
    "of another rank": (
        FILE.replace("OPS", "self.w = Parameter(W['q'])"),
        "[case.py:13] Parameter takes a tensor [layers, N, K] or [N, K]; q [4, 3, 24, 3] of w.safetensors; store it in that shape",
    ),
    "a table of layers": (
        FILE.replace("OPS", "self.w = Parameter(W['p'], {1: 0})"),
        "[case.py:13] Parameter has weights for every layer in the order of layers; layer_lookup={1: 0}; leave it out, and store a tensor for all layers",
    ),
    "arithmetic on a tensor": (
        FILE.replace("OPS", "self.w = Parameter(W['p'].transpose(1, 2))"),
        "[case.py:13] a tensor of a file goes into Parameter or LearnedQuery as it is; .transpose; store it as it is needed",
    ),
    "the first operand": (
        FILE.replace("OPS", "self.w = Parameter(W['p'])").replace("INDEXER", "self.dot(self.w, q, ctx=ctx)"),
        "[case.py:17] GeMM of vortex_torch.indexer takes a Parameter as its second operand; Parameter(p [4, 24, 24] of w.safetensors) as the first; swap them",
    ),
    "a learned query of what is not the query": (
        FILE.replace("OPS", LEARNED[0]).replace("INDEXER", "self.query(self.mean(q, ctx=ctx), ctx=ctx)"),
        "[case.py:17] LearnedQuery of vortex_torch.indexer takes the query, [B, H, head_dim]; vTensor[B, 1, head_dim]; give it q",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_the_words_of_mistakes(tmp_path, case):
    text, expected = ERRORS[case]
    weights(tmp_path, 4, 3, 24)
    path = tmp_path / "case.py"
    path.write_text(text.replace("OPS", "pass").replace("INDEXER", "q"))
    with pytest.raises(vx.UserError) as caught:
        vx.load_flow(path)
    assert str(caught.value).replace(f"{tmp_path}/", "") == expected
