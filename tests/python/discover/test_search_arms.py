"""The laboratory of traces, with a small random model, and searches compared on it."""

import math
import random

import pytest
from reference.random_model import random_llama

from vortex_attention import load_flow
from vortex_attention.discover import arms, replay
from vortex_attention.discover.frontier import Measured
from vortex_attention.discover.gates import Gates
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.replay import ReplayLaboratory
from vortex_attention.discover.study import PASSED
from vortex_attention.ledger import Ledger

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))
WHOLE = {"device": "null", "commit": "0", "dirty": False}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    path = random_llama(folder / "tiny.gguf", context=1024, layers=2)
    workload = Workload(
        model=str(path),
        length=640,
        context=640,
        screen_items=2,
        gate_items=3,
        confirm_items=2,
        batch=1,
        rounds=2,
        threads=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "natural_text", lambda: TEXT)
        patch.setenv("VORTEX_CACHE", str(folder / "cache"))
        yield ReplayLaboratory(workload)


def errors(laboratory, program, part="screen"):
    return [-result.flow.log_probability for batch in laboratory.accuracy(program, part) for result in batch]


def test_a_flow_that_reads_all_is_full_attention_and_fewer_pages_are_further_from_it(laboratory):
    assert errors(laboratory, load_flow("quest", budget=64)) == [0.0, 0.0]
    few, more = (errors(laboratory, load_flow("quest", budget=budget)) for budget in (6, 24))
    assert all(0.0 < b < a < 1.5 for a, b in zip(few, more))


def test_outputs_are_those_of_the_model_where_one_layer_is_sparse(laboratory):
    """Error on the replay against the same step on the model itself, whose later layers are not reached by the first one's error."""
    program = load_flow("centroid", budget=8, full_attention_layers=[1])
    assert all(error > 0 for error in errors(laboratory, program))
    outputs, _ = laboratory._part("screen", 0)._replayed(program)
    for mine, full in zip(outputs, laboratory._part("screen", 0).full):
        assert (mine[:, 1] == full[:, 1]).all() and not (mine[:, 0] == full[:, 0]).all()


def test_state_advances_over_the_steps_of_a_text(laboratory):
    held, plain = load_flow("hysteresis", budget=8), load_flow("centroid", budget=8)
    part = laboratory._part("screen", 0)
    mine, other = part._replayed(held)[0], part._replayed(plain)[0]
    assert all((a[0] == b[0]).all() for a, b in zip(mine, other))  # the first step holds nothing yet
    assert any(not (a[1:] == b[1:]).all() for a, b in zip(mine, other))


def test_speed_is_that_of_bytes_and_passes_the_gates(laboratory, tmp_path):
    program = load_flow("quest", budget=8)
    full, flow, *_ = next(iter(laboratory.speed(program, 1)))
    assert flow.attended_tokens < 8 * 16 + 1 and full.seconds / flow.seconds == pytest.approx(
        laboratory.price(program)["step_speedup"], rel=0.05
    )
    with Ledger.open(tmp_path / "ledger") as ledger:
        gates = Gates(laboratory, ledger, environment=WHOLE)
        verdicts = [gates(gate, program) for gate in ("check", "screen", "gate", "bench")]
    assert [verdict.status for verdict in verdicts] == [PASSED] * 4, [verdict.reason for verdict in verdicts]


def test_a_second_laboratory_loads_no_model(laboratory, monkeypatch):
    def loads(*_, **__):
        raise AssertionError("the model was loaded")

    errors(laboratory, load_flow("quest"))
    monkeypatch.setattr(replay, "load_model", loads)
    again = ReplayLaboratory(laboratory.workload)
    assert errors(again, load_flow("quest", budget=8)) == errors(laboratory, load_flow("quest", budget=8))
    assert again.behaviour(load_flow("quest", budget=8)) == laboratory.behaviour(load_flow("quest", budget=8))
    assert again.behaviour(load_flow("quest", budget=8)) != laboratory.behaviour(load_flow("centroid", budget=8))


@pytest.mark.slow
def test_arms_are_searched_alike_and_the_same_twice(laboratory):
    found = [
        arms.search(arm, 1, laboratory, rounds=1, environment=WHOLE)
        for arm in ("built-in", "random programs", "knobs alone")
    ]
    again = arms.search("built-in", 1, laboratory, rounds=1, environment=WHOLE)
    assert again == found[0]
    assert {one.curve[:8] for one in found} == {found[0].curve[:8]} and all(
        one.proposals == 12 and len(one.curve) == 12 for one in found
    )
    for one in found:
        assert list(one.curve) == sorted(one.curve) and one.held_out > 0


def test_hypervolume_counts_each_area_once():
    assert arms.hypervolume([]) == 0
    one, other = (-0.1, math.log(2)), (-0.2, math.log(4))
    assert arms.hypervolume([one]) == pytest.approx(0.3 * math.log(2))
    assert arms.hypervolume([one, other]) == pytest.approx(0.2 * math.log(4) + 0.1 * math.log(2))
    assert arms.hypervolume([one, other, (-0.3, math.log(2)), (-0.5, 9.0)]) == pytest.approx(
        arms.hypervolume([one, other])
    )


def test_a_curve_follows_the_order_of_proposals():
    measured = [Measured("2", {"a": -0.1}, (math.log(2),)), Measured("4", {"a": -0.05}, (math.log(2),))]
    curve = arms.curve_of(measured, [1, 2, 3, 4])
    assert curve[0] == 0 and curve[1] == curve[2] == pytest.approx(0.3 * math.log(2)) and curve[3] > curve[2]


def searched(arm, seed, end):
    return arms.Searched(arm, seed, (0.1,) * 8 + (end,), end / 2, 9, 3, 1)


def test_arms_are_compared_by_seed_with_intervals():
    rng = random.Random(1)
    found = [
        searched(arm, seed, base + seed * 0.1 + rng.gauss(0, 0.001))
        for arm, base in (("random programs", 0.2), ("built-in", 0.3))
        for seed in range(5)
    ]
    rows = {row["arm"]: row for row in arms.compared(found)}
    mean, low, high = rows["built-in"]["ahead"]
    assert (
        low < mean < high
        and mean == pytest.approx(0.05, abs=0.002)
        and high - low < 0.01
        and rows["random programs"]["ahead"] is None
    )
    svg = arms.picture(found, "t")
    assert svg.count("<polyline") == 2 and svg.startswith("<svg") and "nan" not in svg


def test_every_arm_has_an_agent():
    for name, sampler in arms.ARMS.values():
        if sampler != "edits":
            pytest.importorskip("optuna", reason="optuna is an optional extra and not installed here")
        assert arms.agents.make(name, 1, sampler=sampler).author
