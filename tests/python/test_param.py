"""Learned parameters: what a flow says, where the numbers come from, on the CPU against the interpreter, in the engine, and the fit."""

import numpy as np
import pytest
from reference.random_model import random_llama

import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.eval.indexer import Moments, fit, matrices
from vortex_attention.flows import read_flow
from vortex_attention.formats.safetensors_file import SafetensorsFile, write
from vortex_attention.models import load_model

LEARNED = """import vortex_attention as vx

class Learned(vx.vFlow):
    budget = 6
    weights = "learned.safetensors"

    def summarize(self, page):
        page.low = vx.dot(page.k.mean("token"), vx.param("wk", "dim", low=4), over="dim")

    def score(self, q, page):
        low = vx.dot(q, vx.param("wq", "dim", low=4), over="dim")
        return vx.dot(low, page.low, over="low").softmax("page").sum("head")
"""


def flow_file(tmp_path, text=LEARNED):
    path = tmp_path / "learned.py"
    path.write_text(text)
    return path


def random_weights(tmp_path, shape, name="learned.safetensors", seed=0):
    random = np.random.default_rng(seed)
    arrays = {which: random.standard_normal(shape).astype(np.float32) for which in ("wk", "wq")}
    write(tmp_path / name, arrays)
    return arrays


def words(action) -> str:
    with pytest.raises(vx.UserError) as caught:
        action()
    return str(caught.value)


def test_what_a_program_says_of_its_parameters(tmp_path):
    program = vx.load_flow(flow_file(tmp_path))
    assert program.hash == "b1c16e6b9813a753", "tests/unit/ir/flow_test.cpp writes the same flow in C++"
    assert program.parameters == {"wk": "f32[low=4, dim] @layer", "wq": "f32[low=4, dim] @layer"}
    assert program.weights_file == "learned.safetensors" and not program.has_weights
    assert _core.parse_flow(program.text()) == program and _core.parse_flow_json(program.json()) == program


def test_weights_beside_the_flow_are_found_and_count(tmp_path):
    path, bare = flow_file(tmp_path), vx.load_flow(flow_file(tmp_path))
    random_weights(tmp_path, (8, 4))
    one = vx.load_flow(path)
    assert one.has_weights and one.hash != bare.hash and one.hash == vx.load_flow(path).hash
    random_weights(tmp_path, (8, 4), "other.safetensors", seed=1)
    other = vx.load_flow(path, weights=tmp_path / "other.safetensors")
    assert other.hash not in (one.hash, bare.hash)
    assert _core.parse_flow(one.text()).hash == one.hash, "the text carries the digest of the numbers"


def test_weights_are_nothing_to_a_flow_without_parameters(tmp_path):
    assert vx.load_flow("quest", weights=tmp_path / "none.safetensors") == vx.load_flow("quest")


def test_bf16_and_other_tensors_in_the_file(tmp_path):
    safetensors = pytest.importorskip(
        "safetensors.numpy", reason="safetensors, which writes the file, is not installed"
    )
    half = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float16)
    safetensors.save_file({"wk": half, "wq": half, "bias": half}, tmp_path / "half.safetensors")
    write(tmp_path / "whole.safetensors", {"wk": half.astype(np.float32), "wq": half.astype(np.float32)})
    path = flow_file(tmp_path)
    hashes = {vx.load_flow(path, weights=tmp_path / f"{name}.safetensors").hash for name in ("half", "whole")}
    assert len(hashes) == 1


def test_what_is_written_reads_back(tmp_path):
    arrays = random_weights(tmp_path, (2, 3, 8, 4))
    read = SafetensorsFile(tmp_path / "learned.safetensors").tensors
    for name, array in arrays.items():
        assert np.array_equal(read[name].data.view("<f4").reshape(read[name].shape), array)


@pytest.mark.parametrize("leading", [(), (3,), (3, 2)])
def test_the_cpu_and_the_interpreter_project_alike(tmp_path, leading):
    random = np.random.default_rng(5)
    arrays = random_weights(tmp_path, (*leading, 24, 4))
    program = vx.load_flow(flow_file(tmp_path))
    k, q = random.standard_normal((50, 16, 24), np.float32), random.standard_normal((3, 24), np.float32)
    fast = _core.cpu_flow(program, 24, 3)
    summaries = fast.summarize(k, k)
    low = fast.scores(q, summaries, layer=0)
    wide = {name: value.astype(float) for name, value in summaries.items()}
    exact = _core.interpret_scores(program, q.astype(float), wide, list(range(50)))
    np.testing.assert_allclose(low, exact, rtol=2e-4)
    wq, wk = (arrays[name].reshape(-1, 24, 4)[0].astype(float) for name in ("wq", "wk"))
    np.testing.assert_allclose(summaries["low"], k.astype(float).mean(1) @ wk, rtol=0.02, atol=0.02)
    logit = summaries["low"].astype(float) @ (q.astype(float) @ wq).T
    share = np.exp(logit - logit.max(0))
    np.testing.assert_allclose(exact, (share / share.sum(0)).sum(-1), rtol=1e-9)
    if leading:
        assert not np.allclose(low, fast.scores(q, summaries, layer=2)), "each layer has numbers of its own"


def test_the_file_holds_axes_in_the_order_of_the_flow(tmp_path):
    """Three axes of sizes of their own: the element that the flow calls [a, b] lies at [a, b] in the file, whatever order types have."""
    text = (
        "import vortex_attention as vx\n\nclass Flow(vx.vFlow):\n    budget = 4\n    def score(self, q, page):\n"
        '        w = vx.param("w", "dim", "head", b=3)\n'
        '        return page.index * (q * w).slice("b", 1, 2).sum("b").sum("dim").sum("head")\n'
    )
    path = tmp_path / "turned.py"
    path.write_text(text)
    w = np.arange(4 * 2 * 3, dtype=np.float32).reshape(4, 2, 3)  # dim, head, b
    write(tmp_path / "w.safetensors", {"w": w})
    program = vx.load_flow(path, weights=tmp_path / "w.safetensors")
    q = np.random.default_rng(0).standard_normal((2, 4))
    expected = (q * w[:, :, 1].T).sum()
    scores = _core.interpret_scores(program, q, {}, [1, 2])
    np.testing.assert_allclose(scores, [expected, 2 * expected], rtol=1e-12)
    fast = _core.cpu_flow(program, 4, 2).scores(q.astype(np.float32), {}, candidates=2, first_page=1)
    np.testing.assert_allclose(fast, scores, rtol=1e-5)


def engine(tmp_path):
    loaded = load_model(random_llama(tmp_path / "tiny.gguf", seed=4), threads=1)
    shape = loaded.config.attention
    bench = _core.Workbench(loaded.model, page_size=16, pages=160, max_batch=2, threads=1)
    return loaded, bench, (loaded.config.layers, shape.kv_heads, shape.head_dim)


def test_layers_and_heads_attend_what_their_numbers_say(tmp_path):
    """Zeros but for one layer and KV head: there the pages are those of the largest projected keys, elsewhere ties go to the first."""
    loaded, bench, (layers, heads, dim) = engine(tmp_path)
    arrays = {name: np.zeros((layers, heads, dim, 4), np.float32) for name in ("wk", "wq")}
    for array in arrays.values():
        array[1, 1, :4] = np.eye(4)
    write(tmp_path / "learned.safetensors", arrays)
    flow = bench.load_flow(vx.load_flow(flow_file(tmp_path)))
    base = bench.prefill([int(t) for t in np.random.default_rng(3).integers(0, loaded.config.vocabulary, 400)])
    arm = bench.fork(base, flow)
    bench.record_pages(True)
    bench.decode([arm], [5])
    lists = [[bench.page_list(arm, layer, head) for head in range(heads)] for layer in range(layers)]
    ties = [0, 1, 2, 3, 24, 25]
    for layer in range(layers):
        for head in range(heads):
            assert (lists[layer][head] == ties) == ((layer, head) != (1, 1)), (layer, head, lists[layer][head])
    assert bench.check_integrity() is None


MISTAKES = {
    "no file anywhere": (
        lambda bench, path: bench.load_flow(vx.load_flow(path)),
        '[learned.py:8] weights for the parameter "wk"; none; name a safetensors file: --set weights=FILE, or weights = "FILE" in the flow',
    ),
    "another shape": (
        lambda bench, path: (
            random_weights(path.parent, (9, 5, 64, 4)),
            bench.load_flow(vx.load_flow(path)),
        ),
        '[learned.py:8] the parameter "wk", f32[low=4, dim] @layer, is [LAYERS, HEADS, 4, DIM] for this model; weights of [9, 5, 4, 64]; make the weights for this model',
    ),
    "too many axes": (
        lambda bench, path: vx.load_flow(
            path, weights=saved(path, {"wk": np.zeros((1,) * 5), "wq": np.zeros((1,) * 5)})
        ),
        '[learned.py:8] the parameter "wk", f32[low=4, dim] @layer, has 2 axes, before them one of layers, or one of layers and one of KV heads, or none; a tensor [1, 1, 1, 1, 1]; give it such a shape',
    ),
    "no such tensor": (
        lambda bench, path: vx.load_flow(path, weights=saved(path, {"wk1": np.zeros((8, 4)), "wq": np.zeros((8, 4))})),
        '[learned.py:8] a tensor "wk" among the weights; tensors such as wk1; did you mean "wk1"?',
    ),
    "numbers that are none": (
        lambda bench, path: vx.load_flow(
            path, weights=saved(path, {"wk": np.full((8, 4), np.nan), "wq": np.zeros((8, 4))})
        ),
        '[learned.py:8] the parameter "wk" holds numbers; some that are infinite or NaN; check how it was made',
    ),
}


def saved(path, arrays):
    write(path.parent / "given.safetensors", {name: array.astype(np.float32) for name, array in arrays.items()})
    return path.parent / "given.safetensors"


@pytest.mark.parametrize("case", MISTAKES)
def test_the_words_of_mistakes(tmp_path, case):
    action, expected = MISTAKES[case]
    _, bench, (layers, heads, dim) = engine(tmp_path)
    expected = expected.replace("LAYERS", str(layers)).replace("HEADS", str(heads)).replace("DIM", str(dim))
    assert words(lambda: action(bench, flow_file(tmp_path))).replace(f"{tmp_path}/", "") == expected


WRITTEN = {
    "a folder": (
        LEARNED.replace('"learned.safetensors"', '"../learned.safetensors"'),
        "[learned.py:5] weights name a safetensors file beside the flow, without a folder; str '../learned.safetensors'; write weights = \"learned.safetensors\"",
    ),
    "a name that is none": (
        LEARNED.replace('"wk"', "7"),
        '[learned.py:8] param takes the name of a tensor, then its axes; int 7; say vx.param("w", "dim", low=16)',
    ),
    "an axis that is none": (
        LEARNED.replace('"wk", "dim"', '"wk", 64'),
        '[learned.py:8] the axes of a parameter have names; int 64; say vx.param("w", "dim", low=16)',
    ),
    "an axis that no model has": (
        LEARNED.replace('"wk", "dim"', '"wk", "channel"'),
        '[learned.py:8] declared axes are "head", "token", "dim", or a name and its size; "channel"; give its size by name, as in sub=4',
    ),
    "outside of a method": (
        LEARNED.replace("class Learned", 'W = vx.param("w")\nclass Learned'),
        "[learned.py:3] param belongs in a method of a flow; a call outside; call it in score or summarize",
    ),
    "a summary of numbers alone": (
        LEARNED.replace(
            'vx.dot(page.k.mean("token"), vx.param("wk", "dim", low=4), over="dim")', 'vx.param("wk", low=4)'
        ).replace('.softmax("page").sum("head")', '.sum("head") * page.index'),
        "[learned.py:8] page.low must be made from page.k or page.v; a value that is the same for all pages; write it in score",
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_the_words_of_mistakes_in_the_file(tmp_path, case):
    text, expected = WRITTEN[case]
    assert words(lambda: read_flow(flow_file(tmp_path, text))).replace(f"{tmp_path}/", "") == expected


def test_full_rank_keeps_every_logit():
    random = np.random.default_rng(0)
    moments = Moments.empty(2, 6)
    q, k = random.standard_normal((500, 4, 6)), random.standard_normal((2, 500, 6)) @ random.standard_normal((6, 6))
    moments.add(q.astype(np.float32), k.astype(np.float32))
    wq, wk, kept = matrices(moments, 6)
    np.testing.assert_allclose(wq @ wk.swapaxes(1, 2), np.broadcast_to(np.eye(6), (2, 6, 6)), atol=1e-6)
    assert kept == pytest.approx(1.0)
    with pytest.raises(vx.UserError, match=r"^\[fit\] a rank from 1 to 6, the channels of a head; 7; choose another$"):
        matrices(moments, 7)


def test_the_fit_is_the_best_of_its_rank():
    """Keys vary in three directions and queries see two of them: rank 2 loses nothing, and no other pair of rank 1 keeps more."""
    random = np.random.default_rng(1)
    basis = np.linalg.qr(random.standard_normal((8, 8)))[0]
    k = random.standard_normal((1, 4000, 3)) * [3.0, 1.0, 5.0] @ basis[:3]
    q = random.standard_normal((4000, 2, 2)) @ basis[:2]
    moments = Moments.empty(1, 8)
    moments.add(q.astype(np.float32), k.astype(np.float32))
    wq, wk, kept = matrices(moments, 2)
    logits = q.reshape(-1, 8)[:500] @ k.reshape(-1, 8)[:500].T
    low = (q.reshape(-1, 8)[:500] @ wq[0]) @ (k.reshape(-1, 8)[:500] @ wk[0]).T
    assert kept > 0.999 and np.abs(low - logits).max() < 0.02 * np.abs(logits).max()
    assert 0.85 < matrices(moments, 1)[2] < 0.95, "9 of 9 + 1"


def test_fit_of_a_model(tmp_path):
    loaded, _, (layers, heads, dim) = engine(tmp_path)
    random = np.random.default_rng(0)
    pieces = [[int(t) for t in random.integers(0, loaded.config.vocabulary, 100)] for _ in range(2)]
    arrays, kept = fit(loaded, pieces, rank=4, threads=1)
    assert {name: array.shape for name, array in arrays.items()} == dict.fromkeys(("wq", "wk"), (layers, heads, dim, 4))
    assert 0 < kept <= 1 and all(np.isfinite(array).all() for array in arrays.values())
    again, same = fit(loaded, pieces, rank=4, threads=1)
    assert same == kept and np.array_equal(again["wq"], arrays["wq"])
