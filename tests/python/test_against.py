"""A bench beside an incumbent, beside an earlier run, to a wished resolution, and on mixes of lengths: what is paired, counted, said and refused."""

import json
import math

import numpy as np
import pytest
from reference.random_model import random_llama
from vortex_attention import _core
from vortex_attention.bench import mixes, throughput
from vortex_attention.cli import experiment
from vortex_attention.cli.against import EarlierRun
from vortex_attention.cli.app import main
from vortex_attention.errors import InternalError, UserError
from vortex_attention.flows import load_flow
from vortex_attention.ledger import Ledger
from vortex_attention.ledger.export import table
from vortex_attention.measure import comparable, rounds
from vortex_attention.models import load_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048)


def settings(model, **changes):
    values = dict(model=str(model), flows=("centroid", "quest"), overrides={"budget": "8"}, items=0, batch=2, contexts=(256,), rounds=2,
                  steps=2, threads=2)  # fmt: skip
    return experiment.Settings(**(values | changes))


def test_each_flow_is_timed_beside_full_attention_and_the_incumbent(model, tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        said = []
        job = experiment.Experiment(settings(model, incumbent="centroid"), lambda *line: said.append(line), ledger)
        (case,) = job.run(with_accuracy=False)["speed"]
        rows = table(ledger, "blocks")
    full, centroid, quest = case["arms"]
    assert case["incumbent"] == "centroid" and centroid["ratio_to_incumbent"] is full["ratio_to_incumbent"] is None
    ratio = quest["ratio_to_incumbent"]
    assert ratio["low"] <= ratio["center"] <= ratio["high"] and ratio["count"] == 2
    pairs = {(row["arm"], row["baseline"]) for row in rows}
    assert pairs == {
        ("full", "centroid"),
        ("centroid", "full"),
        ("full", "quest"),
        ("quest", "full"),
        ("centroid", "quest"),
        ("quest", "centroid"),
    }
    mine = [row["seconds"] for row in sorted(rows, key=lambda row: (row["round"], row["position"]))
            if {row["arm"], row["baseline"]} == {"quest", "centroid"}]  # fmt: skip
    logs = [rounds.log_ratio(mine[place : place + 4]) for place in (0, 4)]
    assert ratio["center"] == pytest.approx(math.exp(np.mean(logs)))
    assert len(rows) == 2 * 4 * 3 and [line for line in said if line[0] == "speed"][-1] == ("speed", 24, 24)


def test_an_incumbent_may_be_a_budget_of_a_flow_that_is_not_named(model):
    job = experiment.Experiment(
        settings(model, flows=("centroid",), incumbent="centroid@4", overrides={}), lambda *_: None
    )
    assert list(job.flows) == ["centroid", "centroid@4"] and job.flows["centroid@4"].config.budget == 4


def test_how_many_rounds_a_resolution_takes_is_said_first(model):
    said = []
    wanted = settings(model, flows=("quest",), resolution=0.5)
    result = experiment.Experiment(wanted, lambda *line: said.append(line[0])).run(with_accuracy=False)
    sentence = next(line for line in said if "rounds of A B B A" in line)
    assert "(full attention beside itself, now); ± 50 % takes" in sentence
    case = result["speed"][0]
    assert case["rounds"] >= rounds.LEAST and case["arms"][1]["ratio"]["count"] == case["rounds"]


def test_rounds_follow_from_the_spread():
    assert rounds.rounds_for(0.01, 0.02) == 18 and rounds.rounds_for(0.5, 0.0) == rounds.LEAST
    assert rounds.pooled_deviation([[0.0, 0.2], [1.0, 1.2]]) == pytest.approx(0.1414, abs=1e-4)
    assert rounds.pooled_deviation([[1.0], []]) is None
    assert (
        rounds.said_before(6, None, 0.01, "")
        == "6 rounds of A B B A; how far a round strays on this machine is not known yet"
    )
    said = rounds.said_before(6, 0.02, 0.01, "the last run")
    assert (
        said == "6 rounds of A B B A give ratios to ± 2.1 %, as a round strays by 2.0 % (the last run); ± 1 % takes 18"
    )


def test_the_spread_of_the_last_run_is_known_to_the_next(model, tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        experiment.Experiment(settings(model), lambda *_: None, ledger).run(with_accuracy=False)
        said = []
        experiment.Experiment(settings(model), lambda *line: said.append(line[0]), ledger).run(with_accuracy=False)
        assert any("(the last run of this load on this machine)" in line for line in said)
        assert rounds.recorded_deviation(ledger, "another machine", "2x256") is None


def test_an_earlier_run_stands_beside_only_what_is_like_it(model, tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        first = experiment.Experiment(settings(model), lambda *_: None, ledger)
        first.run(with_accuracy=False)
        earlier = EarlierRun(ledger, first.run_id)
        dirty = earlier.facts["dirty"]
        earlier.facts["dirty"] = False
        second = experiment.Experiment(settings(model, contexts=(300,)), lambda *_: None, ledger)
        with pytest.raises(UserError, match=r"contexts \[256\] there, \[300\] here"):
            earlier.require_like(second)
        third = experiment.Experiment(settings(model), lambda *_: None, ledger)
        if not dirty:
            earlier.require_like(third)
        third.run(with_accuracy=False)
        rows = earlier.beside(third.run_id)
        assert [(row["name"], row["load"]) for row in rows] == [("centroid", "2x256"), ("quest", "2x256")]
        for row in rows:
            assert row["change"]["center"] == pytest.approx(row["here"] / row["there"])
            assert row["change"]["low"] <= row["change"]["center"] <= row["change"]["high"]
    with pytest.raises(UserError, match=r"\[bench\] a ledger, for --against-run; --ledger none; leave --ledger out"):
        EarlierRun(None, "abc")


def test_what_differs_is_named():
    here, there = (
        {"device": "a", "commit": "1", "dirty": False},
        {"device": "b", "commit": "1", "dirty": False, "steps": 4},
    )
    assert comparable.what_differs(here, there) == ["device b there, a here", "steps 4 there, unknown here"]
    with pytest.raises(UserError) as caught:
        comparable.require_comparable(here, there, "0123abcd")
    assert str(caught.value) == (
        "[bench] a run of the same machine, commit and settings as 0123abcd; device b there, a here; steps 4 there, unknown here; "
        "time both in one run with --against, or say --across to see them side by side all the same"
    )
    comparable.require_comparable(here, here, "x")
    with pytest.raises(UserError, match="uncommitted changes"):
        comparable.require_comparable(here | {"dirty": True}, here | {"dirty": True}, "x")


# Mixes


def test_mixes_are_what_they_say():
    made = {name: mixes.make(name, requests=40, seed=3, scale=0.25, vocabulary=100, limit=4096) for name in mixes.MIXES}
    assert {(len(one.turns[0].tokens), one.turns[0].answer) for one in made["fixed"]} == {(128, 16)}
    lengths = [len(one.turns[0].tokens) for one in made["uniform"]]
    assert min(lengths) >= 32 and max(lengths) <= 256 and len(set(lengths)) > 10
    answers = [one.turns[0].answer for one in made["aime"]]
    assert (
        max(answers) > 2 * np.median(answers)
        and max(answers) <= 384
        and all(len(one.turns[0].tokens) <= 75 for one in made["aime"])
    )
    assert {one.turns[0].tokens[:128] for one in made["turns"]} == {made["turns"][0].turns[0].tokens[:128]}
    assert {len(one.turns) for one in made["turns"]} == {3}
    assert made["aime"] == mixes.make("aime", requests=40, seed=3, scale=0.25, vocabulary=100, limit=4096)
    assert made["aime"] != mixes.make("aime", requests=40, seed=4, scale=0.25, vocabulary=100, limit=4096)


def test_a_mix_runs_to_the_last_token_and_shares_prefixes(model):
    loaded = load_model(str(model), threads=2)
    conversations = mixes.make("turns", requests=3, seed=1, scale=0.25, vocabulary=loaded.config.vocabulary, limit=2048)
    config = _core.EngineConfig(pages=200, max_batch=2, max_context=600, threads=2)
    found = throughput.bench_mix(loaded.model, {"quest": load_flow("quest", budget=4), "centroid": load_flow("centroid", budget=4)},
                                 conversations, config, rounds=2, incumbent="centroid")  # fmt: skip
    full, quest, centroid = found
    assert (len(full.runs), len(quest.runs), len(centroid.runs)) == (8, 8, 8)
    asked = sum(turn.answer for one in conversations for turn in one.turns)
    assert {run.tokens for arm in found for run in arm.runs} == {asked}
    assert full.runs[0].prefix_hit_tokens > 6 * 128  # the shared beginning, and turns before
    assert quest.ratio("full").count == 2 and quest.ratio("centroid").count == 2 and centroid.ratio("centroid") is None
    assert throughput.summarise(quest, "centroid")["tokens_per_second"] > 0


def test_an_answer_that_is_cut_short_is_no_result(model, monkeypatch):
    loaded = load_model(str(model), threads=1)
    conversations = mixes.make("fixed", requests=1, seed=1, scale=0.1, vocabulary=loaded.config.vocabulary, limit=2048)

    class Short:
        def __init__(self, *given):
            self.real = _core.Engine(*given)

        def submit(self, prompt, max_new_tokens, flow):
            return self.real.submit(prompt, max_new_tokens=max_new_tokens - 1, flow=flow)

        def __getattr__(self, name):
            return getattr(self.real, name)

    class Core:
        Engine, FULL_ATTENTION = Short, _core.FULL_ATTENTION

    monkeypatch.setattr(throughput, "_core", Core)
    with pytest.raises(
        InternalError, match=r"\[bench\] an answer of 6 tokens to each request; one of 5 that ended by length"
    ):
        throughput.run_mix(
            loaded.model, None, conversations, _core.EngineConfig(pages=50, max_batch=1, max_context=200, threads=1)
        )


def test_lengths_that_warm_an_engine_up_share_no_beginning(model):
    made = mixes.make("turns", requests=3, seed=1, scale=0.25, vocabulary=50, limit=2048)
    other = throughput.with_other_tokens(made, 50)
    for one, warm in zip(made, other):
        assert [(len(turn.tokens), turn.answer) for turn in one.turns] == [
            (len(turn.tokens), turn.answer) for turn in warm.turns
        ]
    assert not {one.turns[0].tokens[0] for one in made} & {one.turns[0].tokens[0] for one in other}


def test_on_a_device_an_engine_is_warm_before_its_time_is_taken(device_folder):
    """Counted is the second of two equal loads: the first captures the graphs."""
    loaded = load_model(str(device_folder), load_format="dummy", device="null")
    made = mixes.make("turns", requests=2, seed=1, scale=0.2, vocabulary=loaded.config.vocabulary, limit=1024)
    config = _core.EngineConfig(pages=200, max_batch=2, max_context=600)
    begun = []

    class Engine:
        def __init__(self, *given):
            self.real = _core.Engine(*given)

        def submit(self, prompt, **given):
            begun.append(prompt[0])
            return self.real.submit(prompt, **given)

        def __getattr__(self, name):
            return getattr(self.real, name)

    class Core:
        FULL_ATTENTION = _core.FULL_ATTENTION

    Core.Engine = Engine
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "_core", Core)
        run = throughput.run_mix(loaded.model, None, made, config)
    asked = sum(turn.answer for one in made for turn in one.turns)
    assert run.tokens == asked and len(begun) == 12 and len(set(begun)) == 2
    assert run.prefix_hit_tokens > 0


def test_a_mix_and_a_decode_on_a_device_are_recorded_as_of_it(device_folder, tmp_path, capsys):
    path = str(tmp_path / "l.sqlite")
    where = ["--model", str(device_folder), "--load-format", "dummy", "--device", "null", "--ledger", path]
    asked = ["bench", "quest@4", "--batch", "2", "--rounds", "1", *where]
    assert main([*asked, "--mix", "fixed", "--requests", "2", "--scale", "0.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["device"].startswith("null")
    assert main([*asked, "--context", "300", "--steps", "2", "--json"]) == 0
    case = json.loads(capsys.readouterr().out)["speed"][0]
    with Ledger.open(path) as ledger:
        rows = table(ledger, "blocks")
        device = rows[0]["device"]
        assert {row["device"] for row in rows} == {device} and device.startswith("null")
        assert {row["numerics"] for row in rows} == {f"1 null {device} kv=bf16 page=16"}
        assert rounds.recorded_deviation(ledger, device, "2x300") is None  # one round has no spread, but it is found
    of_steps = [row for row in rows if row["load"] == "2x300"]
    for row in of_steps:
        names = row["observed"]["kernels"]
        assert row["observed"]["graph_launches"] >= len(names)
        assert ("flow_Quest/score_row" in names) == (row["arm"] == "quest@4")
    assert case["arms"][1]["kernels"] == next(row for row in of_steps if row["arm"] == "quest@4")["observed"]["kernels"]


def test_on_a_cpu_the_kernels_are_those_of_its_instruction_set(model, tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        experiment.Experiment(settings(model, rounds=1), lambda *_: None, ledger).run(with_accuracy=False)
        for row in table(ledger, "blocks"):
            assert row["observed"]["kernels"] == [f"cpu {_core.active_isa()}"]
            assert row["observed"]["graph_launches"] == 0 and row["numerics"].startswith(f"1 {_core.active_isa()} ")


def test_the_command_prints_mixes_and_refuses_others(model, capsys, tmp_path):
    arguments = [
        "bench",
        "quest@4",
        "--model",
        str(model),
        "--requests",
        "2",
        "--scale",
        "0.1",
        "--rounds",
        "1",
        "--threads",
        "2",
    ]
    assert (
        main([*arguments, "--mix", "fixed,turns", "--against", "centroid@4", "--ledger", str(tmp_path / "l.sqlite")])
        == 0
    )
    out = capsys.readouterr().out
    assert "fixed: 2 requests" in out and "× centroid@4" in out and "turns: conversations of 3 turns" in out
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        assert {row["load"] for row in table(ledger, "blocks")} == {"fixed:2", "turns:2"}
    assert main([*arguments, "--mix", "uniform", "--json", "--ledger", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["mixes"][0]["arms"][1]["ratio"]["high"] is None
    for given, words in (
        (["--mix", "fxed"], '[--mix] mixes among fixed, uniform, aime, turns; "fxed"; did you mean "fixed"?'),
        (
            ["--mix", "fixed", "--scale", "9"],
            "[--mix] at most 2048 tokens, the context of the model; 5184 tokens in fixed; lower --scale",
        ),
        (["--mix", "fixed", "--device", "tpu"], 'got "tpu"; use one of these names'),
    ):
        assert main([*arguments, *given, "--ledger", "none"]) == 2
        assert words in capsys.readouterr().err
