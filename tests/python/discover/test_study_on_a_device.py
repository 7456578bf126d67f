"""A study on a device, on the one that has none: everything is planned, refused and recorded as it would be there; numbers mean nothing. And
what a study asks of a model: needles, or RULER's tasks, other ones in the confirmation."""

import json
import os
import signal

import numpy as np
import pytest
from reference.random_model import random_llama

import vortex_attention.discover.laboratory as laboratories
from vortex_attention import _core, load_flow
from vortex_attention.cli.app import main
from vortex_attention.discover import items
from vortex_attention.discover.campaign import Campaign
from vortex_attention.discover.gates import Gates
from vortex_attention.discover.laboratory import Laboratory, Workload, workload_of
from vortex_attention.discover.study import FAILED, PASSED, Draft, Study
from vortex_attention.discover.worker import laboratory_of
from vortex_attention.errors import MachineError, UserError
from vortex_attention.eval.score import Reference, log_softmax, score
from vortex_attention.flows import ready
from vortex_attention.ledger import Ledger

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))
LARGE = "import vortex_attention as vx\nclass Large(vx.vFlow):\n    page_size, budget = 2048, 2\n    def score(self, q, page):\n        return page.index\n"
NULL = "null: plans without hardware"


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(laboratories, "natural_text", lambda: TEXT)
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    return random_llama(tmp_path / "tiny.gguf", width=128, ffn_width=256, head_dim=64, context=8192, unused=4)


def workload(path, **changes):
    given = {"model": str(path), "length": 640, "screen_items": 2, "gate_items": 4, "confirm_items": 2, "batch": 2, "context": 960,
             "rounds": 2, "confirm_rounds": 2, "steps": 4, "threads": 1, "device": "null"}  # fmt: skip
    return Workload(**(given | changes))


def laboratory(path, **changes):
    made = Laboratory(workload(path, **changes))
    made.require_need = lambda least: None  # nothing is computed, so nothing needs what it reads
    return made


def test_all_verbs_of_a_laboratory(path):
    made = laboratory(path)
    flow = ready("quest")
    made.expect([flow, ready("centroid")])
    results = [
        result for part in ("screen", "gate", "confirm") for batch in made.accuracy(flow, part, 5) for result in batch
    ]
    assert len(results) == 8 and all(result.full.log_probability < 0 for result in results)
    assert made.behaviour(flow).startswith("16:") and made.price(flow)["step_speedup"] > 0
    (quartet,) = made.speed(flow, 1)
    assert made.read(quartet[1]).of == 960 + 3.5
    assert (
        made.snapshots.limit == 0
        and made.numerics.startswith("1 null null")
        and made.environment["device"] == "null: plans without hardware"
    )
    made.bench.check_integrity()


def test_a_cohort_answers_the_same_items_which_are_prefilled_once(path, monkeypatch):
    """All of them stay in memory where there is room; else some do, and numbers are the same."""
    prefilled, flows = [], (ready("quest"), ready("centroid"))
    for room in (19, 10):
        shape = laboratory(path).geometry
        page = 2 * 16 * shape.layers * shape.kv_heads * (shape.head_dim + shape.value_dim)
        monkeypatch.setattr(
            laboratories, "DEVICE_HELD", room * 38 * page
        )  # an item of 500 tokens and its answer take 38 pages
        made = laboratory(path, confirm_items=19, confirm_lengths=(300, 500))
        prefill = made.bench.prefill
        counted = []

        class Counting:
            def __getattr__(self, name):
                return getattr(bench, name)

            def prefill(self, tokens):
                counted.append(len(tokens))
                return prefill(tokens)

        bench, made.bench = made.bench, Counting()
        names = [[result.name for batch in made.accuracy(flow, "confirm", 5) for result in batch] for flow in flows]
        assert names[0] == names[1] and len(set(names[0])) == 19
        prefilled.append(len(counted))
        assert len(made._confirming[1]) == made._kept == (19 if room == 19 else 8)
        other = [result.name for batch in made.accuracy(flows[0], "confirm", 6) for result in batch]
        assert not set(other) & set(names[0]) and made._confirming[0] == 6
        bench.check_integrity()
    assert prefilled == [19, 19 + 11]


def test_a_campaign_stops_what_the_device_lacks_in_its_own_words(path, tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        study = Study.open(ledger, "one", {"seed": 1, "workload": workload(path).to_json()})
        made = laboratory_of(study)
        made.require_need = lambda least: None
        drafts = [Draft(ready("quest"), "quest", "good"), Draft(load_flow(large_file(tmp_path)), LARGE, "large pages")]
        good, large = study.propose("somebody", drafts)
        Campaign(study, made).work_outside()
        verdicts = study.verdicts()
        assert list(verdicts[large.id]) == ["check"] and verdicts[large.id]["check"].status == FAILED
        assert "a page_size of at most 1024 tokens on cuda" in verdicts[large.id]["check"].reason
        assert [verdict.status for verdict in verdicts[good.id].values()][:3] == [PASSED] * 3
        assert study.devices() == [NULL]
        with pytest.raises(MachineError, match="begin another study: speeds of two devices are not compared"):
            from vortex_attention.discover.device import require_same

            require_same("one", study.devices(), "NVIDIA H200")


def large_file(folder):
    (folder / "large.py").write_text(LARGE)
    return str(folder / "large.py")


def test_a_variant_fits_the_device(path):
    made = laboratory(path)
    from vortex_attention.discover import mutate

    large = load_flow(large_file(path.parent))
    with pytest.raises(UserError, match="a page_size of at most 1024 tokens on cuda"):
        mutate.fits(large, made.geometry)
    _core.require_served(large, "cpu", layers=1, kv_heads=1, head_dim=64, group=1)


def test_verbs_know_the_device_of_a_study(path, tmp_path, capsys):
    file, flow = str(tmp_path / "l.sqlite"), large_file(tmp_path)

    def call(*arguments, code=0):
        assert main([*arguments, "--study", "gpu", "--ledger", file, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    begun = call("study", "begin", "--model", str(path), "--device", "null", "--length", "640", "--context", "960")
    assert begun["settings"]["workload"]["device"] == "null" and begun["settings"]["workload"]["steps"] == 12
    checked = call("study", "check", flow)
    assert not checked["right"] if "right" in checked else checked["error"]
    assert "on cuda" in json.dumps(checked["error"])


def test_settings_of_a_study_without_a_device_stay_what_they_were():
    assert not {"device", "suite", "tasks", "confirm_tasks", "confirm_lengths"} & set(Workload().to_json())
    given = Workload(device="null", suite="ruler", tasks=("vt",), confirm_lengths=[2048])
    assert Workload(**json.loads(json.dumps(given.to_json()))) == given


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "tpu"], 'got "tpu"; use one of these names'),
        (["--device", "null", "--evaluator", "null"], "--device cpu and --suite needle with the evaluator null"),
        (["--suite", "rules"], "a suite among needle, ruler; 'rules'; leave it out for needles"),
        (["--suite", "ruler", "--tasks", "vtt"], 'did you mean "vt"?'),
        (["--suite", "ruler", "--confirm-tasks", "cwee"], 'did you mean "cwe"?'),
        (["--tasks", "vt"], "tasks of a suite that has some; --tasks with needle; say --suite ruler"),
        (["--confirm-lengths", "8k"], "numbers of tokens from 64 to 16777216, by commas; '8k'; for example 8192,16384"),
    ],
)
def test_words_of_what_is_refused(arguments, words, tmp_path, capsys):
    assert main(["discover", "--ledger", str(tmp_path / "l.sqlite"), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_study_on_ruler_confirms_on_tasks_and_lengths_that_no_gate_shows(path, small_sources):
    made = laboratory(path, suite="ruler", tasks=("niah_multikey_2", "qa_1"), confirm_tasks=("niah_multivalue", "qa_1"), confirm_lengths=(1700, 1900),
                      length=1000, confirm_items=6)  # fmt: skip
    gate = items.make(made.workload, "gate", 4, 3, made.loaded, lambda: TEXT)
    assert [one.group for one in gate] == ["niah_multikey_2", "qa_1"] * 2
    confirm = items.make(made.workload, "confirm", 6, 9, made.loaded, lambda: TEXT)
    assert [(one.group, one.name.split("-")[1]) for one in confirm] == [
        ("niah_multivalue", "1700"), ("qa_1", "1700"), ("niah_multivalue", "1900"), ("qa_1", "1900"), ("niah_multivalue", "1700"), ("qa_1", "1700")]  # fmt: skip
    decode = made.loaded.tokenizer.decode
    assert all(len(one.prompt) <= 1000 for one in gate) and all(len(one.prompt) <= 1900 for one in confirm)
    answers = [decode(list(one.answer)) for one in confirm]
    assert answers[0].count(",") > 1 and all("," not in answers[index] for index in (1, 3, 5))

    def asked(found):
        return {decode(list(one.prompt)).rsplit("Where is item ", 1)[1] for one in found if one.group == "qa_1"}

    assert not asked(gate) & asked(confirm)
    makers = items.Makers(made.workload.model, 2, "fork")  # which knows the small sources too
    try:
        cells = items.cells_of(made.workload, "gate", 4, 3)
        makers.expect(cells)
        makers.expect(cells)  # not made twice
        begun = dict(makers._begun)
        assert list(begun) == cells
        assert items.make(made.workload, "gate", 4, 3, made.loaded, lambda: TEXT, makers) == gate
        assert not makers._begun and all(future.done() for future in begun.values())
        assert items.make(made.workload, "gate", 4, 3, made.loaded, lambda: TEXT, makers) == gate  # not expected
        process = next(iter(makers._pool._processes.values()))
        os.kill(process.pid, signal.SIGINT)  # Ctrl-C reaches all of a terminal: one of them says so
        process.join(30)
        assert process.exitcode == 130
    finally:
        makers.close()
    results = [result for batch in made.accuracy(ready("centroid"), "confirm", 9) for result in batch]
    assert [result.name for result in results] == [one.name for one in confirm]
    assert all(result.scores == (0.0, 0.0) for result in results)  # nothing is said on the null device
    assert confirm[0].score(f"they are {', '.join(confirm[0].outputs)}.") == 1.0 and gate[1].score("nowhere") == 0.0
    assert all(result.scores is None for batch in made.accuracy(ready("centroid"), "screen") for result in batch)


def test_a_confirmation_on_ruler_says_its_score(path, small_sources, tmp_path):
    made = laboratory(path, suite="ruler", tasks=("niah_multikey_2",), length=1000, confirm_items=4, device="cpu")
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        verdict = Gates(made, ledger)("confirm", ready("centroid"), 5)
        score = verdict.facts["score"]
        assert score["difference"]["center"] == pytest.approx(score["flow"] - score["full"])
        assert "items that nobody saw; RULER" in verdict.reason and "points" in verdict.reason
        rows = ledger.rows("SELECT scores FROM outcome")
        assert len(rows) == 8 and all("score" in json.loads(row["scores"]) for row in rows)


def test_a_reference_scores_as_the_formulas_say():
    rng = np.random.default_rng(3)
    full, arm = (rng.normal(0, 4, (3, 500)).astype(np.float32) for _ in range(2))
    answer = (7, int(full[1].argmax()), 499)
    outcome, wide, other = score(full, arm, answer, 12.0), log_softmax(full), log_softmax(arm)
    assert outcome.log_probability == pytest.approx(np.mean([other[i, token] for i, token in enumerate(answer)]))
    assert outcome.kl == pytest.approx((np.exp(wide) * (wide - other)).sum() / 3)
    assert score(full, full, answer, 1.0).kl == 0.0
    itself = Reference(full, answer).full(3.0)
    assert itself.log_probability == pytest.approx(np.mean([wide[i, token] for i, token in enumerate(answer)]))
    assert not itself.exact and Reference(full, full.argmax(axis=1)).full(1.0).exact


def test_workload_of_the_words_of_a_command():
    words = {"suite": "ruler", "tasks": "vt, cwe", "confirm_tasks": "", "confirm_lengths": "8192,16384"}
    made = workload_of("real", device="null", model="m", **words)
    assert made.tasks == ("vt", "cwe") and made.confirm_lengths == (8192, 16384) and made.steps == 12
    assert workload_of("real", device="cpu", model="m", **words).steps == Workload().steps
