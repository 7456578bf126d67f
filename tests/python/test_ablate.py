"""Ablation of channels on a tiny random model: lenses against definitions, all channels against the engine's oracle, what the verb prints."""

import json

import numpy as np
import pytest
from reference.random_model import random_llama
from vortex_attention.cli import measure
from vortex_attention.cli.app import main
from vortex_attention.errors import UserError
from vortex_attention.eval import bed as beds
from vortex_attention.eval.ablation import in_model, job, lenses, on_traces
from vortex_attention.eval.ablation.selection import Budget, choose, page_scores
from vortex_attention.eval.screening import Screen
from vortex_attention.eval.suite import Item
from vortex_attention.eval.trace_bed import TraceBed
from vortex_attention.flows import load_flow
from vortex_attention.models import data
from vortex_attention.report.heat import colour, heat_svg

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))
PLACES = (150, 170, 191, 199)
TOKENS = tuple(int(t) for t in np.random.default_rng(3).integers(0, 256, 201))
ITEM = Item("a", TOKENS, 1, data=PLACES)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048)


@pytest.fixture(autouse=True)
def own_text_and_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "natural_text", lambda: TEXT)
    monkeypatch.setattr(data, "natural_text", lambda: TEXT)
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bed(model):
    return TraceBed(str(model), beds.load_flows(["oracle@6"], {}, ()), natural=lambda: TEXT, threads=2)


def test_bands_are_pairs_of_rope_channels():
    bands = lenses.bands_of(16, 4)
    assert [list(band) for band in bands] == [[0, 1, 8, 9], [2, 3, 10, 11], [4, 5, 12, 13], [6, 7, 14, 15]]
    with pytest.raises(UserError, match=r"\[ablate\] groups that divide the 8 pairs of channels; 3; change --groups"):
        lenses.bands_of(16, 3)


def test_lenses_keep_what_they_say():
    made = {lens.name: lens for lens in lenses.by_band((2, 2, 16), 4)}
    q = np.arange(1.0, 17.0, dtype=np.float32)
    assert (q @ made["all channels"].matrices[1, 0] == q).all()
    assert np.flatnonzero(q @ made["only band 1"].matrices[0, 1]).tolist() == [2, 3, 10, 11]
    assert np.flatnonzero(q @ made["without band 0"].matrices[0, 0] == 0).tolist() == [0, 1, 8, 9]
    assert np.flatnonzero(q @ made["slowest 2 of 4"].matrices[0, 0]).tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert made["fastest 3 of 4"].share == 0.75


def test_learned_and_measured_lenses_follow_the_traces(bed):
    (trace,) = bed.record([ITEM])
    dim = bed.geometry.head_dim
    (variance,) = lenses.by_variance([trace], [8])
    worth = (trace.q[:, 1, :2] ** 2).mean(axis=(0, 1)) * trace.keys(1)[0].var(axis=0)
    assert set(np.flatnonzero(np.diag(variance.matrices[1, 0]))) == set(np.argsort(-worth)[:8])
    (pca,) = lenses.by_pca([trace], [8])
    keys = trace.keys(0)[1] - trace.keys(0)[1].mean(axis=0)
    kept = np.linalg.norm(keys @ pca.matrices[0, 1]) ** 2 / np.linalg.norm(keys) ** 2
    singular = np.linalg.svd(keys, compute_uv=False) ** 2
    assert kept == pytest.approx(singular[:8].sum() / singular.sum(), rel=1e-4)
    budget = Budget(6)
    (learned, more) = lenses.by_learning([trace], [8, 16], 4, budget, bed.geometry.scale)
    assert (learned.share, more.share) == (0.25, 0.5) and (
        np.diagonal(learned.matrices, axis1=2, axis2=3).sum(-1) == dim // 4
    ).all()
    best = on_traces.routed([trace], [learned, *lenses.by_band((2, 2, dim), 4)], budget, bed.geometry)
    alone = [one.recall for one, lens in zip(best[1:], lenses.by_band((2, 2, dim), 4)) if lens.kind == "keep band"]
    assert best[0].recall == pytest.approx(
        np.max(alone, axis=0), abs=1e-6
    )  # the first band taken is the best one of each head


def test_all_channels_choose_what_the_engines_oracle_chooses(bed):
    """On a trace: the pages, their recall and the outputs' error are those of the screen."""
    arms = bed.prepare([ITEM])
    arms.base = bed.prefill(bed.kept)(TOKENS[:-1])
    trace, budget = arms.trace(ITEM), Budget(6)
    same = []
    for index, at in enumerate(PLACES):
        with arms.fork(["oracle@6"]) as branch:
            bed.bench.truncate(branch.sequences[0], at)
            branch.decode([arms.row(ITEM) + index])
            read = arms.pages_read("oracle@6", branch.sequences[0])
        for layer in range(2):
            asked = trace.q[index, layer].reshape(2, 2, -1) * bed.geometry.scale
            logits = np.matmul(asked, trace.keys(layer).transpose(0, 2, 1))
            first, stop = budget.candidates(at + 1)
            ours = choose(page_scores(logits, at + 1, budget), budget.to_choose(at + 1))
            same.append((ours == read[layer][:, first:stop]).ravel())
    assert np.concatenate(same).mean() > 0.98
    lens = lenses.by_band((2, 2, 32), 4)[0]
    (one,) = on_traces.routed([trace], [lens], budget, bed.geometry)
    from vortex_attention.eval.suites.screen import ScreenSuite

    suite = ScreenSuite(bed.context, items=1, length=200, positions=4)
    outcome = suite.measure(arms, ITEM, ["full", "oracle@6"])["oracle@6"]
    assert one.recall.mean() == pytest.approx(outcome.scores["recall"], abs=0.01)
    assert one.error.mean() == pytest.approx(outcome.scores["error"], abs=0.02)


def test_full_attention_of_the_ablation_is_the_engines(model):
    """Row 0 of Side.attend gives the workbench's logits, and a lens whose budget covers all loses nothing."""
    real = beds.Bed(str(model), {}, threads=2)
    arms = real.prepare([Item("a", TOKENS, 4)])
    base = real.bench.prefill(list(TOKENS[:-1]))
    with arms.fork(["full"], base=base) as branch:
        real.bench.truncate(branch.sequences[0], 180)
        logits = branch.decode([TOKENS[180]])[0]
    question = in_model.Question("text", "a", TOKENS, (180,))
    all_of_them = lenses.by_band((2, 2, 32), 4)[0]
    full, covered = in_model.answer(
        real.bench,
        lambda tokens: real.bench.prefill(list(tokens)),
        real.loaded.model,
        question,
        [all_of_them],
        Budget(64),
        2,
    )
    said = logits - logits.max()
    assert full.log_probability == pytest.approx(float(said[TOKENS[181]] - np.log(np.exp(said).sum())), abs=0.02)
    assert covered.kl == pytest.approx(0.0, abs=1e-6) and covered.agreement == 1.0
    (full, chosen) = in_model.answer(
        real.bench,
        lambda tokens: real.bench.prefill(list(tokens)),
        real.loaded.model,
        question,
        [all_of_them],
        Budget(5),
        2,
    )
    assert chosen.kl > 0


def test_the_verb_prints_tables_and_draws(model, tmp_path, capsys):
    arguments = ["ablate", "--model", str(model), "--length", "512", "--texts", "1", "--positions", "4", "--groups", "4", "--budget", "6",
                 "--questions", "2", "--threads", "2", "--ledger", "none", "--output", str(tmp_path / "maps")]  # fmt: skip
    assert main([*arguments, "--on", "text,needle"]) == 0
    out = capsys.readouterr().out
    assert "all channels" in out and "learned 8 of 32" in out and "95 % of a row's attention mass lies in" in out
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "only_band.svg",
        "pages.svg",
        "without_band.svg",
    ]
    assert main([*arguments, "--on", "none", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in result["lenses"]}
    assert rows["all channels"]["recall"] > rows["random 4 of 32"]["recall"] and result["questions"] == {}
    assert np.array(rows["pca 16 of 32"]["heads"]).shape == (2, 2) and len(result["pages"]["positions"]) == 4
    assert main([*arguments, "--on", "nedle"]) == 2
    assert '[ablate] suites among text, needle, ruler; "nedle"; did you mean "needle"?' in capsys.readouterr().err


def test_trace_says_where_the_mass_lies(model, tmp_path, capsys):
    arguments = [
        "trace",
        "--model",
        str(model),
        "--length",
        "400",
        "--items",
        "2",
        "--positions",
        "6",
        "--threads",
        "2",
    ]
    assert main([*arguments, "--output", str(tmp_path / "pages.svg")]) == 0
    out = capsys.readouterr().out
    assert "2 traces of 400 tokens, 6 queries each" in out and "(2 recorded now)" in out and "by position" in out
    assert (tmp_path / "pages.svg").read_text().startswith("<svg")
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["recorded"] == 0 and 1 < result["pages"]["mean"] <= result["pages"]["there"]
    (tmp_path / "file").write_text("")
    assert main([*arguments, "--output", str(tmp_path / "file" / "x.svg")]) == 3
    assert "choose another place with --output" in capsys.readouterr().err


def test_a_screen_is_a_function_of_a_program(model):
    screen = Screen(str(model), natural=lambda: TEXT, items=2, length=400, positions=5, threads=2)
    good, again, bad = (screen(load_flow(name, budget=6)) for name in ("oracle", "oracle", "random_pages"))
    assert good["recall"] > bad["recall"] and good["error"] < bad["error"] and good["seconds"] > 0
    assert {key: value for key, value in good.items() if key != "seconds"} == {
        key: value for key, value in again.items() if key != "seconds"
    }
    wanted = measure.Wanted(suite="screen", flows=("oracle",), model=str(model), overrides={"budget": "6"}, threads=2,
                            options={"items": 2, "length": 400, "positions": 5})  # fmt: skip
    arm = measure.accuracy(wanted, lambda *_: None)["arms"][1]
    assert arm["name"] == "oracle" and arm["metrics"]["recall"]["center"] == pytest.approx(good["recall"])


def test_a_heat_map_is_text_that_nothing_breaks():
    svg = heat_svg("a <b>", "said & done", [[0.0, 1.0], [float("nan"), 0.5]], ["r<", "s"], ["x", "y"])
    assert "a &lt;b&gt;" in svg and "r&lt;" in svg and svg.count("<rect") == 4 and "nan" not in svg
    assert (colour(0.0), colour(1.0), colour(2.0)) == ("#440154", "#fde725", "#fde725")


def test_a_picture_that_cannot_be_drawn_costs_no_figures(model, tmp_path, capsys, monkeypatch):
    from vortex_attention.cli import instruments
    from vortex_attention.errors import MachineError

    def fail(path, text):
        raise MachineError("report", "a disk with room", "none", "free some")

    monkeypatch.setattr(instruments, "write", fail)
    for verb in (["trace", "--items", "1"], ["ablate", "--texts", "1", "--on", "none", "--ledger", "none"]):
        asked = [
            *verb,
            "--model",
            str(model),
            "--length",
            "512",
            "--positions",
            "4",
            "-o",
            str(tmp_path / "o"),
            "--json",
        ]
        assert main(asked) == 3
        assert json.loads(capsys.readouterr().out.splitlines()[0])["pages"]["mean"] > 0


def test_a_heat_map_needs_no_plotly():
    import subprocess
    import sys

    code = "import sys; sys.modules['plotly'] = None; from vortex_attention.report import heat, shares, along; print(heat.heat_svg('a', 'b', [[1.0]], ['r'], ['c'])[:4])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("<svg"), done.stderr
