"""The main job on a tiny random model: every figure of the result is there, paired, counted and true to the settings."""

import json
import math

import pytest
from reference.random_model import random_llama
from vortex_attention.cli import experiment
from vortex_attention.cli.app import main
from vortex_attention.engine import Generator, Sampling
from vortex_attention.errors import UserError
from vortex_attention.ledger import Ledger
from vortex_attention.ledger.export import table

TEXT = " ".join(f"Sentence {i} says little." for i in range(300))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048)


@pytest.fixture(autouse=True)
def text(monkeypatch):
    monkeypatch.setattr(experiment, "natural_text", lambda: TEXT)


def settings(model, **changes):
    values = dict(model=str(model), flows=("centroid", "recent_only", "oracle"), overrides={"budget": "8"}, items=2, length=800, batch=2,
                  contexts=(256, 700), rounds=2, steps=2, threads=2)  # fmt: skip
    return experiment.Settings(**(values | changes))


@pytest.fixture(scope="module")
def result(model):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "natural_text", lambda: TEXT)
        return experiment.Experiment(settings(model), lambda *_: None).run()


def test_accuracy_is_paired_and_counted(result):
    arms = {arm["name"]: arm for arm in result["accuracy"]["arms"]}
    assert list(arms) == ["full", "centroid", "recent_only", "oracle"]
    assert arms["full"]["kl"]["center"] == 0.0
    assert arms["full"]["attended_tokens"] > 720
    for name in ("centroid", "recent_only", "oracle"):
        assert 104 < arms[name]["attended_tokens"] <= 128
        assert arms[name]["kl"]["center"] > 0
        assert [outcome["log_probability"] for outcome in arms[name]["outcomes"]] != [
            outcome["log_probability"] for outcome in arms["full"]["outcomes"]]  # fmt: skip


def test_speed_has_full_attention_beside_every_flow(result):
    for case, context in zip(result["speed"], (256, 700), strict=True):
        assert (case["batch"], case["context"]) == (2, context)
        full, *arms = case["arms"]
        assert full["ratio"] is None and full["attended_tokens"] == pytest.approx(2 * 2 * 2 * (context + 2.5), rel=0.01)
        for arm in arms:
            assert arm["ratio"]["low"] <= arm["ratio"]["center"] <= arm["ratio"]["high"]
            assert arm["attended_tokens"] <= 2 * 2 * 2 * 8 * 16
            assert arm["bytes"] < full["bytes"] or context == 256


def test_the_picture_shows_the_budget(result):
    picture = result["selection"]
    assert picture["flow"] == "centroid"
    for layer in picture["share"]:
        assert math.fsum(layer) == pytest.approx(8)


def test_a_budget_that_covers_everything_is_full_attention(model):
    result = experiment.Experiment(
        settings(model, flows=("centroid",), overrides={"budget": "64"}), lambda *_: None
    ).run(with_speed=False)
    full, arm = result["accuracy"]["arms"]
    assert arm["kl"]["center"] == 0.0 and arm["log_probability"] == full["log_probability"]


def test_smaller_pages_than_the_pools_usual_ones(model):
    one = experiment.Experiment(
        settings(model, flows=("centroid",), overrides={"budget": "16", "page_size": "8"}), lambda *_: None
    )
    assert one.page_size == 8
    arms = one.run(with_speed=False)["accuracy"]["arms"]
    assert 104 < arms[1]["attended_tokens"] <= 128


def test_lengths_beyond_the_context_are_refused(model):
    with pytest.raises(
        UserError, match=r"\[lengths\] at most 2048 tokens, the context of .*; 4096 tokens; lower --length or --context"
    ):
        experiment.Experiment(settings(model, length=4096), lambda *_: None)


@pytest.mark.parametrize("page_size", [7, 24])
def test_a_flow_that_is_right_runs_whatever_its_page_size(model, page_size, capsys):
    """One rule for all commands: physical pages are the largest that the flow's pages are made of."""
    overrides = {"page_size": str(page_size), "budget": "8"}
    assert main(["check", "quest", "--model", str(model), "--set", f"page_size={page_size}", "--budget", "8"]) == 0
    assert "quest: Quest is right" in capsys.readouterr().out
    one = experiment.Experiment(
        settings(model, flows=("quest",), overrides=overrides, contexts=(256,)), lambda *_: None
    )
    assert one.page_size == {7: 1, 24: 8}[page_size]
    assert one.run(with_accuracy=False)["speed"][0]["arms"][1]["attended_tokens"] <= 2 * 2 * 2 * 8 * page_size
    answers = [
        Generator(
            str(model), flow="quest", overrides=overrides | {"budget": budget}, memory_bytes=8 << 20, threads=1
        ).generate(["hello " * 30], Sampling(max_tokens=8))[0]
        for budget in ("8", "400")
    ]
    assert (
        answers[1]
        == Generator(str(model), memory_bytes=8 << 20, threads=1).generate(["hello " * 30], Sampling(max_tokens=8))[0]
    )


def test_pages_are_held_to_the_flows_own_rule(model, tmp_path):
    """A flow without a score attends its pinned pages only, whatever its budget; full layers attend everything."""
    (tmp_path / "pinned.py").write_text("import vortex_attention as vx\nclass Pinned(vx.vFlow):\n    score = None\n")
    wanted = settings(
        model,
        flows=(str(tmp_path / "pinned.py"), "quest"),
        overrides={"full_attention_layers": "1", "budget": "8"},
        contexts=(),
    )
    one = experiment.Experiment(wanted, lambda *_: None)
    assert one._allowed_tokens("pinned", 256) == pytest.approx((3 * 16 + 256 + 2.5) / 2)
    assert one._allowed_tokens("quest", 256) == pytest.approx((8 * 16 + 256 + 2.5) / 2)


def test_every_part_of_a_bench_shows_progress(model):
    said = []
    wanted = settings(model, flows=("quest",), contexts=(256, 300))
    experiment.Experiment(wanted, lambda *line: said.append(line)).run(with_accuracy=False)
    assert [line for line in said if line[0] == "filling 300"] == [("filling 300", done, 2) for done in range(3)]
    assert [line for line in said if line[0] == "speed"] == [
        ("speed", done, 2 * 2 * 4) for done in range(2 * 2 * 4 + 1)
    ]
    assert ("reading memory", 1, 1) in said


def test_the_same_flow_twice_is_refused(model):
    with pytest.raises(
        UserError, match=r"\[flows\] flows with different names, none called full; centroid a second time; rename one"
    ):
        experiment.Experiment(settings(model, flows=("centroid", "centroid")), lambda *_: None)


def test_run_prints_tables_and_writes_the_report(model, tmp_path, capsys):
    report = tmp_path / "r.html"
    code = main(["run", "centroid", "--model", str(model), "--items", "2", "--length", "800", "--context", "256", "--batch", "2",
                 "--rounds", "2", "--steps", "1", "--report", str(report)])  # fmt: skip
    assert code == 0
    out = capsys.readouterr().out
    assert "accuracy: 2 needles, 800 tokens" in out and "decode: 2 sequences × 256 tokens" in out
    assert report.read_text().startswith("<!doctype html>")


def short_bench(model) -> list[str]:
    loads = ["--context", "64", "--batch", "1", "--rounds", "1", "--steps", "1"]
    return ["bench", "centroid", "--model", str(model), *loads]


def test_json_is_the_whole_result(model, capsys):
    assert main([*short_bench(model), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == 1 and result["speed"][0]["arms"][1]["name"] == "centroid"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            ["run", "--context", "x"],
            "[--context] positive whole numbers, separated by commas; 'x'; for example 1024,4096",
        ),
        (["run", "--set", "budget"], "[--set] NAME=VALUE, for example budget=32; 'budget'; write the name"),
        (["eval", "centroide"], "centroid"),
        (["bench", "--set", "bugdet=3"], "budget"),
        (["bench", "--budget", "0"], "budget"),
    ],
)
def test_bad_options_end_with_one_clear_line(arguments, words, model, capsys):
    assert main([*arguments, "--model", str(model)]) == 2
    assert words in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_the_machines_error(model, tmp_path, capsys):
    code = main(["run", "centroid", "--model", str(model), "--items", "1", "--length", "800", "--context", "64", "--batch", "1",
                 "--rounds", "2", "--steps", "1", "--report", str(tmp_path / "no" / "x.html")])  # fmt: skip
    assert code == 3
    printed = capsys.readouterr()
    assert "error: [report] a folder that can be written for" in printed.err
    assert printed.out == "" and "loading the model" not in printed.err  # refused before anything is measured


def test_a_folder_as_report_is_the_users_mistake(model, tmp_path, capsys):
    assert main(["run", "--model", str(model), "--report", str(tmp_path)]) == 2
    assert f"error: [report] the path of a file; {tmp_path} is a folder; name a file in it" in capsys.readouterr().err


def test_what_is_measured_is_in_the_ledger(model, tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        result = experiment.Experiment(settings(model, contexts=(256,)), lambda *_: None, ledger).run()
        assert [(run["kind"], run["suite"], run["status"]) for run in ledger.runs()] == [
            ("speed", "decode", "done"),
            ("accuracy", "needle", "done"),
        ]
        assert all(run["model_sha256"] == result["model"]["sha256"] for run in ledger.runs())
        rows = table(ledger, "outcomes")
        assert len(rows) == 2 * 4 and {row["role"] for row in rows} == {"full", "flow", "control"}
        for arm in result["accuracy"]["arms"]:
            mine = [row for row in rows if row["arm"] == arm["name"]]
            assert [row["scores"]["log_probability"] for row in mine] == [
                outcome["log_probability"] for outcome in arm["outcomes"]
            ]
            assert [row["observed"]["attended_tokens"] for row in mine] == [
                outcome["attended_tokens"] for outcome in arm["outcomes"]
            ]
        blocks = table(ledger, "blocks")
        assert len(blocks) == 3 * 2 * 4
        for name in ("centroid", "recent_only", "oracle"):
            pair = [row for row in blocks if row["round"] == 1 and name in (row["arm"], row["baseline"])]
            assert sorted((row["position"], row["arm"]) for row in pair) == [
                (0, "full"),
                (1, name),
                (2, name),
                (3, "full"),
            ]
            assert len({row["observed"]["digest"] for row in pair if row["arm"] == name}) == 1


def test_none_is_no_ledger(model, tmp_path, monkeypatch):
    monkeypatch.setenv("VORTEX_LEDGER", str(tmp_path / "here" / "ledger.sqlite"))
    measure = short_bench(model)
    assert main([*measure, "--ledger", "none"]) == 0
    assert not (tmp_path / "here").exists()
    assert main(measure) == 0
    assert (tmp_path / "here" / "ledger.sqlite").exists()
