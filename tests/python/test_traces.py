"""Traces and what is screened on them: the replayed chain chooses the pages that the model's own decode chooses, damaged files are made
again, figures agree with definitions in NumPy."""

import numpy as np
import pytest
from reference.random_model import random_llama
from vortex_attention import _core
from vortex_attention.cli import measure
from vortex_attention.errors import UserError
from vortex_attention.eval import bed as beds
from vortex_attention.eval import trace_bed
from vortex_attention.eval.arms import FULL
from vortex_attention.eval.mass import page_mass, pages_for, token_mass
from vortex_attention.eval.suite import Item
from vortex_attention.eval.suites.screen import recalls
from vortex_attention.eval.trace_bed import TraceBed
from vortex_attention.eval.traces import Traces, attend, narrow, pack, unpack

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))
PLACES = (60, 77, 128, 191, 199)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048, layers=3)


@pytest.fixture(autouse=True)
def own_text_and_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "natural_text", lambda: TEXT)
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))


TOKENS = tuple(int(t) for t in np.random.default_rng(3).integers(0, 256, 201))
ITEM = Item("a", TOKENS, 1, data=PLACES)


def bed_of(model, flows, **changes):
    return TraceBed(str(model), beds.load_flows(flows, {}, ()), natural=lambda: TEXT, threads=2, **changes)


FLOWS = ["quest@5", "centroid@6", "oracle@5", "hierarchical@6", "top_p@6", "random_pages@5"]


@pytest.mark.parametrize("page_size, layer", [(16, 0), (16, 2), (8, 1)])
def test_a_replay_reads_the_pages_and_gives_the_outputs_of_the_model_itself(model, page_size, layer):
    """One layer is sparse, so that what it is asked is full attention's in the model as well. Queries differ in the last bits."""
    others = ",".join(str(other) for other in range(3) if other != layer)
    loaded = beds.load_flows(FLOWS, {"page_size": str(page_size), "full_attention_layers": others}, ())
    real = beds.Bed(str(model), loaded, threads=2)
    real_arms = real.prepare([Item("a", TOKENS, 4)])
    base = real.bench.prefill(list(TOKENS[:-1]))
    bed = TraceBed(str(model), loaded, natural=lambda: TEXT, threads=2)
    arms = bed.prepare([ITEM])
    arms.base = bed.prefill(None)(TOKENS[:-1])
    same = []
    for name in loaded:
        for index, at in enumerate(PLACES):
            with real_arms.fork([name], base=base) as theirs, arms.fork([name]) as ours:
                real.bench.truncate(theirs.sequences[0], at)
                theirs.decode([TOKENS[at]])
                bed.bench.truncate(ours.sequences[0], at)
                ours.decode([arms.row(ITEM) + index])
                same.append(arms.pages_read(name, ours.sequences[0]) == real_arms.pages_read(name, theirs.sequences[0]))
    assert np.concatenate([pages.ravel() for pages in same]).mean() > (0.9999 if layer == 0 else 0.98)
    trace = arms.trace(ITEM)
    with arms.fork([FULL]) as full:
        bed.bench.truncate(full.sequences[0], PLACES[2])
        outputs = arms.outputs(full.decode([arms.row(ITEM) + 2]))[0]
    for layer in range(3):
        expected = attend(trace.q[2, layer], trace.keys(layer)[:, : PLACES[2] + 1], trace.values(layer, 32)[:, : PLACES[2] + 1],
                          bed.geometry.scale)  # fmt: skip
        assert outputs[layer] == pytest.approx(expected.ravel(), abs=2e-3)
    bed.bench.check_integrity()


def test_recorded_queries_are_those_of_the_decode(model):
    """The trace's queries, keys and values, beside those that a step of the whole text gives to attention written here."""
    bed = bed_of(model, ["quest@5"])
    (trace,) = bed.record([ITEM])
    loaded = beds.Bed(str(model), {}, threads=1).loaded
    tokens, seen = TOKENS[:-1], {}

    def ask(layer, q, k, v):
        seen[layer] = q
        keys, values = narrow(k).transpose(1, 0, 2), narrow(v).transpose(1, 0, 2)
        return np.stack([attend(q[i], keys[:, : i + 1], values[:, : i + 1], 32**-0.5) for i in range(len(tokens))])

    loaded.model.step(list(tokens), list(range(len(tokens))), ask, [])
    for layer in range(3):
        assert trace.q[:, layer] == pytest.approx(seen[layer][list(PLACES)], abs=0.02)


def test_pages_of_any_size_hold_the_same_trace(model):
    bed = bed_of(model, ["quest@5"])
    (trace,) = bed.record([ITEM])
    for page_size in (1, 8, 16, 7):
        k, v = unpack(pack(trace, bed.geometry, page_size), trace.tokens, bed.geometry, page_size)
        assert (k == trace.k).all() and (v == trace.v).all()


def test_a_trace_is_made_once_and_a_damaged_one_again(model, monkeypatch):
    first = bed_of(model, ["quest@5"])
    (trace,) = first.record([ITEM])
    assert first.recorded == 1
    with monkeypatch.context() as patch:
        patch.setattr(trace_bed, "load_model", None)  # no model is loaded when the traces are there
        second = bed_of(model, ["centroid@5"])
        (kept,) = second.record([ITEM])
    assert second.recorded == 0 and all(
        (getattr(kept, name) == getattr(trace, name)).all() for name in ("positions", "q", "k", "v")
    )
    (path,) = first.kept.folder.glob("*.trace")
    whole = path.read_bytes()
    for damage in (whole[:-1], whole[:100] + b"x" + whole[101:], b"", b"vortex-trace 1\n{}\n"):
        path.write_bytes(damage)
        said = []
        third = bed_of(model, ["quest@5"], progress=lambda *line: said.append(line[0]))
        third.record([ITEM])
        assert third.recorded == 1 and f"the trace {path} is damaged; it is made again" in said
        assert (third.kept.damaged, path.read_bytes()) == (1, whole)
    none = bed_of(model, ["quest@5"], gigabytes=1e-6)
    none.kept.folder = path.parent / "other"
    none.record([ITEM])
    assert none.recorded == 1 and not none.kept.folder.exists()
    keys = {Traces.key("m", "1", TOKENS, PLACES), Traces.key("m", "1", TOKENS, PLACES[1:]), Traces.key("m", "2", TOKENS, PLACES),
            Traces.key("n", "1", TOKENS, PLACES), Traces.key("m", "1", TOKENS[1:], PLACES)}  # fmt: skip
    assert len(keys) == 5


def test_mass_is_softmax_over_what_lies_before(model):
    (trace,) = (bed := bed_of(model, ["quest@5"])).record([ITEM])
    mass = token_mass(trace, 1, bed.geometry.scale)
    assert mass.shape == (5, 2, 200) and mass.sum(-1) == pytest.approx(1.0)
    for index, at in enumerate(PLACES):
        assert (mass[index, :, at + 1 :] == 0).all()
        logits = bed.geometry.scale * trace.q[index, 1, 2:4] @ trace.keys(1)[1, : at + 1].T.astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        assert mass[index, 1, : at + 1] == pytest.approx(shares.mean(0), abs=1e-5)
    pages = page_mass(mass, 16)
    assert pages.shape == (5, 2, 13) and pages[0, 0, 1] == pytest.approx(mass[0, 0, 16:32].sum())
    assert pages_for(np.array([0.5, 0.1, 0.3, 0.1]), 0.8) == 2 and pages_for(np.array([0.5, 0.1, 0.3, 0.1]), 0.81) == 3


def test_recalls_by_hand():
    weights = np.array([[0.4, 0.1, 0.3, 0.2]])
    recall, top = recalls(weights, np.array([[True, True, False, False]]))
    assert recall == pytest.approx([0.5]) and top == pytest.approx([0.5])
    assert recalls(weights, np.zeros((1, 4), bool)) == (pytest.approx([0.0]), pytest.approx([0.0]))
    assert recalls(np.zeros((2, 0)), np.zeros((2, 0), bool))[0].tolist() == [1.0, 1.0]


def wanted(model, **changes):
    values = dict(suite="screen", flows=("centroid", "centroid@20"), model=str(model), overrides={"budget": "6"}, threads=2,
                  options={"items": 3, "length": 500, "positions": 8})  # fmt: skip
    return measure.Wanted(**(values | changes))


def test_the_screen_tells_good_selections_from_bad_ones(model):
    result = measure.accuracy(wanted(model), lambda *_: None)
    arms = {arm["name"]: {name: value["center"] for name, value in arm["metrics"].items()} for arm in result["arms"]}
    assert arms["full"] == {"recall": 1.0, "top": 1.0, "worst": 1.0, "error": 0.0}
    assert (
        arms["oracle"]["top"] > 0.95
    )  # it weighs heads by their share of the candidates' mass, the screen by their mass
    for better, worse in (("oracle", "centroid"), ("centroid", "random_pages"), ("centroid", "recent_only")):
        assert arms[better]["recall"] > arms[worse]["recall"]
    assert (
        arms["centroid@20"]["recall"] > arms["centroid"]["recall"]
        and arms["centroid@20"]["error"] < arms["centroid"]["error"]
    )
    outcome = result["arms"][1]["outcomes"][0]
    heads = np.array(outcome["heads"])
    assert (
        heads.shape == (3, 2)
        and heads.min() == pytest.approx(outcome["worst"], abs=1e-4)
        and len(outcome["layers"]) == 3
    )
    assert result["arms"][1]["attended_tokens"] <= 6 * 16
    again = measure.accuracy(wanted(model), lambda *_: None)
    assert [arm["outcomes"] for arm in again["arms"]] == [arm["outcomes"] for arm in result["arms"]]


def test_a_budget_that_covers_everything_has_no_error(model):
    result = measure.accuracy(wanted(model, flows=("centroid@64",), overrides={}), lambda *_: None)
    arm = result["arms"][1]
    assert arm["metrics"]["error"]["center"] == 0.0 and arm["metrics"]["recall"]["center"] == 1.0


def test_what_the_screen_refuses(model):
    with pytest.raises(
        UserError, match=r"\[trace\] the CPU and K and V in bf16; cpu, int8; leave --device and --kv-dtype out"
    ):
        measure.accuracy(wanted(model, kv_dtype="int8"), lambda *_: None)
    with pytest.raises(UserError, match=r"\[screen\] 1 to 250 positions; 400; change --positions"):
        measure.accuracy(wanted(model, options={"items": 1, "length": 500, "positions": 400}), lambda *_: None)
    with pytest.raises(
        UserError,
        match=r"options of the suite screen: --items, --length, --seed, --positions, --tasks; --steps; leave it out",
    ):
        measure.accuracy(wanted(model, options={"steps": 8}), lambda *_: None)


def test_a_replay_refuses_what_was_not_recorded(model):
    config = beds.Bed(str(model), {}, threads=1).loaded.config
    q, k = np.ones((4, 3, 4, 32), np.float32), np.ones((4, 3, 2, 32), np.float32)
    for arrays, words in (
        (
            (q[:, :2], k, k),
            "q of 4 rows, 3 layers and 128 numbers; 1024 numbers; record it from a model of this geometry",
        ),
        ((q, k, None), "v of 4 rows, 3 layers and 64 numbers; 0 numbers"),
        ((q[:0], k[:0], k[:0]), "at least one recorded row; none"),
    ):
        with pytest.raises(UserError, match=words):
            _core.replay_model(config, *arrays)
    bench = _core.Workbench(_core.replay_model(config, q, k, k), page_size=16, pages=4, max_batch=1, threads=1)
    assert bench.prefill([0, 1, 2, 3]) >= 0
    with pytest.raises(
        UserError, match=r"\[replay\] tokens that are recorded rows, below 4; token 4; give the row of a recorded token"
    ):
        bench.prefill([4])
