"""Studies: proposals and verdicts that are there once, campaigns that go on from where they were killed, workers that share."""

import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from vortex_attention import UserError, flows, load_flow
from vortex_attention.discover import device, intake
from vortex_attention.discover.campaign import READY, Campaign
from vortex_attention.discover.confirmations import cohort, cohorts, ready_of, samples_of

from vortex_attention.discover.gates import BESIDE, Gates, Limits
from vortex_attention.discover.laboratory import ItemResult, Workload
from vortex_attention.discover.null import NullLaboratory
from vortex_attention.discover.study import (
    ANSWERED,
    FAILED,
    PASSED,
    QUARANTINED,
    Draft,
    Study,
    Verdict,
    is_alive,
    this_worker,
)
from vortex_attention.ledger import Ledger, Outcome

WORKLOAD = Workload(screen_items=4, gate_items=8, confirm_items=16)


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


def study_of(ledger, name="one"):
    return Study.open(ledger, name, {"seed": 1})


def campaign_of(ledger, name="one", laboratory=None):
    return Campaign(
        study_of(ledger, name),
        laboratory or NullLaboratory(WORKLOAD),
        environment={"device": "null", "commit": "0", "dirty": False},
    )


def draft(name, **settings):
    return Draft(load_flow(name, **settings), name, "it is better")


def rows(ledger, table):
    return ledger.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]


def test_a_study_is_named_and_its_settings_stay(ledger):
    study_of(ledger)
    with pytest.raises(UserError, match=r"a study of this ledger: one; came: \"on\"|study of this ledger: one"):
        Study.open(ledger, "on")
    with pytest.raises(UserError, match="seed 2 instead of 1"):
        Study.open(ledger, "one", {"seed": 2})
    assert Study.open(ledger, "one").settings == {"seed": 1}


def test_a_round_is_proposed_once(ledger):
    study = study_of(ledger)
    first = study.propose("a", [draft("quest"), draft("centroid")], round=1)
    again = study.propose("b", [draft("slow_means")], round=1)
    assert first == again and [proposal.slot for proposal in first] == [0, 1] and first[0].author == "a"
    outside = study.propose("me", [draft("slow_means")]) + study.propose("me", [draft("streaming")])
    assert [proposal.slot for proposal in outside] == [0, 1]


def test_a_flow_that_means_the_same_is_answered_from_its_twin(ledger):
    study = study_of(ledger)
    first, second = study.propose("a", [draft("quest"), Draft(load_flow("quest"), "renamed", "another")])
    verdict = study.verdicts()[second.id]["check"]
    assert verdict.status == ANSWERED and verdict.facts == {"twin": first.id}
    assert study.next_gate(study.verdicts()[second.id]) is None and first.id not in study.verdicts()


def test_a_file_that_is_no_flow_is_kept_with_its_reason(ledger):
    study = study_of(ledger)
    (bad,) = study.propose("a", [Draft(None, "class X", "hope", refused="[x.py:1] a flow ...")])
    assert study.verdicts()[bad.id]["check"].status == FAILED
    with pytest.raises(UserError, match="a proposal that became a flow"):
        study.program(bad)


def test_a_gate_speaks_once(ledger):
    study = study_of(ledger)
    (one,) = study.propose("a", [draft("quest")])
    assert study.judge(one, Verdict("check", PASSED, "fits"))
    assert not study.judge(one, Verdict("check", FAILED, "no"))
    assert study.verdicts()[one.id]["check"].reason == "fits" and study.next_gate(study.verdicts()[one.id]) == "screen"


def test_a_lease_keeps_others_away_until_its_worker_is_gone(ledger):
    study = study_of(ledger)
    study.propose("a", [draft("quest"), draft("centroid")])
    me = this_worker()
    first, gate = study.take(me)
    assert gate == "check" and is_alive(me)
    gone = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path[:0] = sys.argv[1:]; from vortex_attention.discover.study import this_worker; print(this_worker())",
            *sys.path,
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    second, _ = study.take("elsewhere:1:1")
    assert second.id != first.id
    assert study.take("another:2:2") is None
    assert not is_alive(gone)
    study.give_back(first, me)
    assert study.take(gone)[0].id == first.id
    assert study.take("another:2:2")[0].id == first.id  # its holder is dead


@pytest.mark.slow
def test_a_campaign_goes_on_from_where_it_was(ledger):
    campaign_of(ledger).run(1, 4, seed=1)
    before = {id: gates for id, gates in study_of(ledger).verdicts().items()}
    campaign_of(ledger).run(1, 4, seed=1)
    assert study_of(ledger).verdicts() == before
    campaign_of(ledger).run(2, 4, seed=1)
    assert len(study_of(ledger).proposals()) > len(READY) + 4


@pytest.mark.slow
def test_no_round_begins_after_its_time(ledger):
    campaign_of(ledger).run(3, 2, seed=1, until=time.monotonic() - 1)
    study = study_of(ledger)
    verdicts = study.verdicts()
    assert {proposal.round for proposal in study.proposals()} == {1}  # the ready flows, all of them to their end
    assert all(study.next_gate(verdicts.get(proposal.id, {})) is None for proposal in study.proposals())
    campaign_of(ledger).run(1, 2, seed=1)
    assert {proposal.round for proposal in study_of(ledger).proposals()} == {1, 2}


@pytest.mark.slow
def test_the_same_seed_makes_the_same_campaign(tmp_path):
    made = []
    for name in ("a", "b"):
        with Ledger.open(tmp_path / name) as ledger:
            campaign_of(ledger).run(2, 4, seed=3)
            made.append([(proposal.flow_hash, proposal.hypothesis) for proposal in study_of(ledger).proposals()])
    assert made[0] == made[1]


def test_every_hypothesis_is_there_before_a_result(ledger):
    campaign_of(ledger).run(1, 4, seed=1)
    late = ledger.rows("SELECT p.id FROM proposal p JOIN verdict v ON v.proposal = p.id WHERE v.at < p.at")
    assert not late and all(proposal.hypothesis for proposal in study_of(ledger).proposals())


def test_every_number_traces_to_its_run(ledger):
    campaign = campaign_of(ledger)
    campaign.run(1, 4, seed=1)
    for gates in campaign.study.verdicts().values():
        for gate in ("screen", "gate", "bench"):
            assert gate not in gates or ledger.run_id(gates[gate].run)
    measured = campaign.study.measured()
    assert measured and all(
        len(one.gains) == WORKLOAD.gate_items and len(one.log_ratios) == WORKLOAD.rounds for one in measured
    )
    victim = campaign.study.verdicts()[int(measured[0].key)]["gate"].run
    ledger.retract(victim, "wrong items")
    assert measured[0].key not in {one.key for one in campaign.study.measured()}


@pytest.mark.slow
def test_confirmations_are_on_other_items_and_at_most_eight(ledger):
    campaign = campaign_of(ledger)
    campaign.run(2, 4, seed=1)
    confirmed = campaign.confirm()
    assert confirmed and campaign.confirm() == confirmed and len(confirmed) <= 8
    seen = {
        row["item"]
        for row in ledger.rows(
            "SELECT item FROM outcome o JOIN arm a ON a.id = o.arm JOIN run r ON r.id = a.run WHERE r.suite != 'discover confirm'"
        )
    }
    fresh = {
        row["item"]
        for row in ledger.rows(
            "SELECT item FROM outcome o JOIN arm a ON a.id = o.arm JOIN run r ON r.id = a.run WHERE r.suite = 'discover confirm'"
        )
    }
    assert fresh and not seen & fresh
    for one in confirmed:
        truth, ratio = campaign.laboratory.truth(
            campaign.study.program(next(p for p in campaign.study.proposals() if p.id == one.proposal))
        )
        assert abs(one.gain - truth) < 0.05 and abs(one.ratio / ratio - 1) < 0.02
        assert not one.accurate or truth > -0.10


def test_what_others_have_handed_in_is_measured_before_a_round_is_proposed(ledger):
    campaign = campaign_of(ledger)
    (mine,) = campaign.study.propose("somebody", [draft("quest", budget=40)])
    seen = []

    class Agent:
        author = "watching"

        def drafts(self, study, points, laboratory, round, variants):
            seen.append([point.key for point in points])
            return []

    campaign.agent = Agent()
    campaign.run(1, 4, seed=1)
    assert seen and str(mine.id) in seen[0]


def test_what_reads_no_clock_waits_for_nobody(ledger, monkeypatch, tmp_path):
    """Another process times something on this machine for hours: a study of the null evaluator goes on, one of a model waits."""
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    with device.held("bench"):
        campaign = campaign_of(ledger)
        campaign.run(0, 4, seed=1)
        assert len(campaign.study.measured()) == len(READY)
        waiting = threading.Thread(target=lambda: device.held("screen", object()).__enter__(), daemon=True)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(10.0)
    assert not waiting.is_alive()


def test_who_proposes_may_change_and_what_is_measured_may_not(ledger):
    """So an agent may join a study that another, or a person, has begun."""
    begun = {"seed": 1, "variants": 4, "evaluator": "null", "workload": WORKLOAD.to_json()}
    Study.open(ledger, "shared", begun)
    joined = Study.open(ledger, "shared", begun | {"variants": 12, "agent": "knobs", "start": "nothing"})
    assert joined.settings == begun
    with pytest.raises(
        UserError, match="the settings that study shared began with; evaluator 'real' instead of 'null'"
    ):
        Study.open(ledger, "shared", begun | {"evaluator": "real", "agent": "knobs"})


def test_a_cohort_is_chosen_before_any_of_it_is_measured(ledger):
    """In the ledger first, on items that its number fixes; no flow begins after its time; what is there goes on, and later flows get a cohort of
    their own."""
    campaign, expected, seeds = campaign_of(ledger), [], []
    campaign.laboratory.expect_confirmation = expected.append
    campaign.run(1, 4, seed=1)
    study, judge = campaign.study, campaign._judge

    def judged(proposal, gate, seed=0):
        (cohort,) = cohorts(study)[len(seeds) // 4 :]
        assert proposal.id in cohort.proposals and seed == cohort.seed
        seeds.append(seed)
        judge(proposal, gate, seed)

    assert campaign.confirm(until=time.monotonic() - 1.0, most=4) == []  # chosen, not measured
    (cohort,) = cohorts(study)
    assert len(cohort.proposals) == 4 and [id in ready_of(study) for id in cohort.proposals] == [
        True,
        True,
        False,
        False,
    ]
    assert expected == [cohort.seed]  # questions are made while flows are searched
    campaign.run(2, 4, seed=1)  # what is found meanwhile does not get in
    campaign._judge = judged
    assert {one.proposal for one in campaign.confirm(most=4)} == set(cohort.proposals) and cohorts(study) == [cohort]
    assert len(campaign.confirm(most=6)) == 6 and len(cohorts(study)) == 2
    assert len(set(seeds)) == 2 and not set(cohorts(study)[1].proposals) & set(cohort.proposals)
    items = [set(study.gains(study.verdicts(id)[id]["confirm"].run)) for id in cohort.proposals]
    assert all(one == items[0] for one in items)  # the same for all, and others than the next cohort's
    assert not items[0] & set(study.gains(study.verdicts()[cohorts(study)[1].proposals[0]]["confirm"].run))


def test_campaigns_at_once_follow_one_cohort(ledger):
    campaign, other = campaign_of(ledger), campaign_of(ledger)
    campaign.run(1, 4, seed=1)

    def late():
        assert other.confirm(until=time.monotonic() - 1.0) == []  # another process was first
        return campaign._to_confirm(8)[::-1]

    found = cohort(campaign.study, late, "me")
    assert len(cohorts(campaign.study)) == 1 and found == cohorts(campaign.study)[0]
    assert list(found.proposals) == campaign._to_confirm(8)


def test_a_found_flow_is_timed_beside_the_ready_flow_to_beat(ledger):
    """In rounds of their own, which are not mixed up with those beside full attention; a ready flow that comes later beside the found ones."""
    campaign = campaign_of(ledger)
    campaign.run(2, 4, seed=1)
    campaign.confirm()
    study, laboratory = campaign.study, campaign.laboratory
    by_id = {proposal.id: proposal for proposal in study.proposals()}
    truth = {id: laboratory.truth(study.program(proposal))[1] for id, proposal in by_id.items()}
    ready, samples = ready_of(study), samples_of(study)
    first, *later = sorted(samples, key=lambda one: study.verdicts()[one.proposal]["confirm"].at)
    assert (
        first.proposal in ready and not first.beside and any(one.proposal in ready for one in later) and len(later) > 2
    )
    for one in samples:
        assert len(one.log_ratios) == laboratory.workload.confirm_rounds
        assert math.exp(sum(one.log_ratios) / len(one.log_ratios)) == pytest.approx(truth[one.proposal], rel=0.02)
        assert one.beside or one.ready
        for other, ratios in one.beside.items():
            assert (other in ready) != one.ready and len(ratios) == BESIDE * laboratory.workload.confirm_rounds
            ratio = truth[one.proposal] / truth[other]
            assert math.exp(sum(ratios) / len(ratios)) == pytest.approx(ratio, rel=0.01)
    accurate = {one.proposal for one in campaign.confirmed() if one.accurate}
    made = [claim for claim in campaign.claims() if claim.proposal in accurate]
    assert made and all(claim.paired for claim in made)
    one = next(one for one in samples if one.beside and not one.ready)
    reason = study.verdicts()[one.proposal]["confirm"].reason
    assert f"times {study.program(by_id[next(iter(one.beside))]).name}" in reason


def test_a_flow_may_call_itself_what_it_likes(ledger, tmp_path):
    path = tmp_path / "full.py"
    path.write_text(
        (pathlib.Path(flows.__file__).parent / "centroid.py").read_text().replace("class Centroid(", "class full(")
    )
    program = load_flow(str(path))
    assert program.name == "full"
    gates = Gates(NullLaboratory(WORKLOAD), ledger, environment={"device": "null", "commit": "0", "dirty": False})
    for gate in ("screen", "gate", "bench", "confirm"):
        assert gates(gate, program, 5, [load_flow("centroid")] if gate == "confirm" else []).status == PASSED


def test_a_flow_may_call_itself_like_the_flow_it_is_timed_beside(ledger):
    """IR may have any name; rounds are told apart all the same."""
    rival = load_flow("slow_means")
    text = load_flow("centroid").text().replace('flow "Centroid"', f'flow "to beat: {rival.name} {rival.hash[:12]}"')
    program = intake.draft(text, "h").program
    assert program.name.startswith("to beat: ")
    gates = Gates(NullLaboratory(WORKLOAD), ledger, environment={"device": "null", "commit": "0", "dirty": False})
    verdict = gates("confirm", program, 5, [rival])
    study = Study.open(ledger, "named", {"seed": 1})
    assert verdict.status == PASSED and set(study.beside(verdict.run)) == {rival.hash}
    assert len(study.log_ratios(verdict.run)) == WORKLOAD.confirm_rounds


def test_a_flow_that_this_language_does_not_read_fails_its_gate_alone(ledger, monkeypatch):
    """A ledger of an earlier language: the campaign goes on, nobody is timed beside such a flow, and it is nobody's parent."""
    campaign = campaign_of(ledger)
    campaign.run(0, 4, seed=1)
    campaign.confirm(most=2)
    gone, unread = ready_of(campaign.study), Study.program
    monkeypatch.setattr(
        Study,
        "program",
        lambda study, proposal: unread(study, proposal) if proposal.id not in gone else _raise("[ir:3] an op; slow"),
    )
    campaign.run(1, 4, seed=1)
    campaign.confirm()
    verdicts = campaign.study.verdicts()
    found = [proposal for proposal in campaign.study.proposals() if proposal.round == 2]
    assert found and all(verdicts[one.id] for one in found) and not any(set(one.parents) & gone for one in found)
    assert all(not sample.beside for sample in samples_of(campaign.study))
    (late,) = campaign.study.propose("me", [Draft(load_flow("quest", budget=40), "quest", "h")])
    gone.add(late.id)
    campaign.run(1, 4, seed=1)
    (verdict,) = campaign.study.verdicts()[late.id].values()
    assert (verdict.gate, verdict.status, verdict.reason) == ("check", FAILED, "[ir:3] an op; slow")


def _raise(words):
    raise UserError("ir:3", *words.partition("] ")[2].split("; "), "")


class Impossible(NullLaboratory):
    def truth(self, program):
        return super().truth(program)[0], 1000.0


class Bad(NullLaboratory):
    def truth(self, program):
        return -3.0, 3.0


class Middling(NullLaboratory):
    def truth(self, program):
        return -0.8, 3.0


def test_more_speed_than_the_bytes_allow_is_put_into_quarantine(ledger):
    verdict = Gates(Impossible(WORKLOAD), ledger)("bench", load_flow("quest"))
    assert verdict.status == QUARANTINED and "that its bytes allow" in verdict.reason


class Turncoat(NullLaboratory):
    """A flow that reads thousands of tokens a row while accuracy is measured; its speed is measured at 512."""

    tokens = 4000.0

    def accuracy(self, program, part, seed=0):
        for batch in super().accuracy(program, part, seed):
            for result in batch:
                yield [ItemResult(result.name, result.full, replace(result.flow, attended_tokens=self.tokens))]


def test_only_finished_runs_that_stand_say_what_was_read(ledger):
    """A later run that was stopped, failed or taken back neither hides what a flow read nor accuses it."""
    laboratory, quest = Turncoat(WORKLOAD), load_flow("quest")
    gates = Gates(laboratory, ledger, environment={"device": "null", "commit": "0", "dirty": False})
    first = gates("gate", quest)
    assert gates("bench", quest).status == QUARANTINED
    laboratory.tokens = 512.0
    ledger.retract(gates("gate", quest).run, "other items")
    with pytest.raises(KeyboardInterrupt), gates._run("accuracy", "gate", 0) as run:
        arms = {"full": run.arm("full"), "flow": run.arm("quest", quest)}
        run.add_outcomes(
            [
                (arms[side], "item", Outcome({}, {"attended_tokens": tokens}), None)
                for side, tokens in (("full", 4096.0), ("flow", 512.0))
            ]
        )
        raise KeyboardInterrupt
    assert "where accuracy is measured" in gates("bench", quest).reason
    ledger.retract(first.run, "other items")
    assert gates("bench", quest).status == PASSED


def test_losers_are_stopped_early_with_a_reason(ledger):
    screen = Gates(Bad(WORKLOAD), ledger)("screen", load_flow("quest"))
    assert screen.status == FAILED and "-1.00 nat is required" in screen.reason
    many = Workload(screen_items=4, gate_items=32)
    gate = Gates(Middling(many), ledger, Limits())("gate", load_flow("quest"))
    assert gate.status == FAILED and gate.facts["items"] == 8 and "stopped" in gate.reason


def test_a_flow_that_does_not_fit_fails_its_check(ledger):
    verdict = Gates(NullLaboratory(WORKLOAD), ledger)("check", load_flow("oracle"))
    assert verdict.status == FAILED and "summaries below 50%" in verdict.reason


COMMAND = [sys.executable, "-m", "vortex_attention", "discover", "--evaluator", "null", "--items", "8", "--json"]


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.slow
def test_kills_lose_and_double_nothing(tmp_path):
    """A campaign killed at random moments ends as one that was left alone."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    undisturbed = json.loads(
        subprocess.run(
            [*COMMAND, "--rounds", "2", "--ledger", whole], env=environment(), capture_output=True, check=True
        ).stdout
    )
    rng, kills = random.Random(1), int(os.environ.get("KILLS", "6"))
    for _ in range(kills):
        process = subprocess.Popen(
            [*COMMAND, "--rounds", "2", "--ledger", broken],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.3, 3.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    resumed = json.loads(
        subprocess.run(
            [*COMMAND, "--rounds", "2", "--ledger", broken], env=environment(), capture_output=True, check=True
        ).stdout
    )
    assert {key: resumed[key] for key in ("proposals", "gates")} == {
        key: undisturbed[key] for key in ("proposals", "gates")
    }
    assert [point["key"] for point in resumed["frontier"]] == [point["key"] for point in undisturbed["frontier"]]
    with Ledger.open(broken) as ledger:
        assert not ledger.check()


@pytest.mark.slow
def test_workers_share_a_study(tmp_path):
    workers = [
        subprocess.Popen(
            [*COMMAND, "--rounds", "2", "--no-confirm", "--ledger", tmp_path / "shared"],
            env=environment(),
            stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    results = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    assert results[0]["gates"] == results[1]["gates"] == results[2]["gates"]
    with Ledger.open(tmp_path / "shared") as ledger:
        assert rows(ledger, "verdict") == sum(sum(counts.values()) for counts in results[0]["gates"].values())


@pytest.mark.slow
def test_the_command_says_what_is_wrong():
    for arguments, words in (
        (["--evaluator", "nul"], "real, replay or null"),
        (["--ledger", "none"], "a study lives in a ledger"),
    ):
        done = subprocess.run([*COMMAND[:4], *arguments], env=environment(), capture_output=True, text=True)
        assert done.returncode == 2 and words in done.stderr
