"""The queue of a study: submissions that are there once, turns that go round by agent, accounts that add up, workers whose presence is known."""

import os
import subprocess
import sys
import time

import pytest

from vortex_attention import UserError, load_flow
from vortex_attention.discover import device
from vortex_attention.discover.campaign import Campaign
from vortex_attention.discover.frontier import Point
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.null import NullLaboratory
from vortex_attention.discover.queue import Queue, status_of
from vortex_attention.discover.study import Draft, Study, Verdict
from vortex_attention.discover.worker import Worker, at_work, last_failure, present, start
from vortex_attention.errors import MachineError
from vortex_attention.ledger import Ledger

WORKLOAD = Workload(screen_items=4, gate_items=8, confirm_items=16)
ENVIRONMENT = {"device": "null", "commit": "0", "dirty": False}


@pytest.fixture
def study(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield Study.open(ledger, "one", {"seed": 1, "evaluator": "null", "workload": WORKLOAD.to_json()})


def hand_in(study, author, *budgets):
    return [
        study.propose(author, [Draft(load_flow("quest", budget=budget), "quest", "better")])[0].id for budget in budgets
    ]


def worker_of(study):
    return Worker(study, NullLaboratory(WORKLOAD), environment=ENVIRONMENT)


def test_the_same_submission_is_one(study):
    (one,) = hand_in(study, "a", 32)
    queue = Queue(study)
    first = queue.submit("a", one)
    assert queue.submit("b", one) == first and first.agent == "a" and len(queue.of(one)) == 1
    assert [turn.gate for turn in queue.waiting()] == ["check"]


def test_what_cannot_be_submitted_is_said(study):
    hand_in(study, "a", 32)
    for arguments, words in (
        ((7, "bench"), "the number of a proposal of study one; 7; it has 1, the latest is 1"),
        ((1, "best"), "a gate: check, screen, gate, bench, confirm; 'best'"),
        ((1, "confirm"), "a proposal that passed its bench and may be on the frontier; proposal 1"),
    ):
        with pytest.raises(UserError) as error:
            Queue(study).submit("a", *arguments)
        assert words in str(error.value)


def test_turns_go_round_by_agent(study):
    """Whoever hands in much waits for whoever hands in little."""
    queue = Queue(study)
    for agent, budgets in (("many", (16, 18, 20, 22)), ("few", (24,)), ("some", (26, 28))):
        for id in hand_in(study, agent, *budgets):
            queue.submit(agent, id, until="check")
    assert [turn.submission.agent for turn in queue.waiting()] == [
        "many",
        "few",
        "some",
        "many",
        "some",
        "many",
        "many",
    ]
    served = []
    worker = worker_of(study)
    while turn := worker.step():
        served.append(turn.submission.agent)
    assert served == ["many", "few", "some", "many", "some", "many", "many"]
    late = hand_in(study, "late", 40)[0]
    queue.submit("many", hand_in(study, "many", 42)[0], until="check")
    queue.submit("late", late, until="check")
    assert [turn.submission.agent for turn in queue.waiting()] == ["late", "many"]


def test_what_is_asked_for_is_done_and_no_more(study):
    queue, worker = Queue(study), worker_of(study)
    (one,) = hand_in(study, "a", 32)
    queue.submit("a", one, until="screen")
    while worker.step():
        pass
    assert list(study.verdicts()[one]) == ["check", "screen"]
    queue.submit("b", one, until="bench")
    while worker.step():
        pass
    assert list(study.verdicts()[one]) == ["check", "screen", "gate", "bench"] and not queue.waiting()


def test_withdrawn_is_not_measured(study):
    queue = Queue(study)
    (one,) = hand_in(study, "a", 32)
    queue.submit("a", one)
    assert queue.withdraw("b", one, "not mine") == []
    assert len(queue.withdraw("a", one, "a slip")) == 1 and queue.withdraw("a", one, "again") == []
    assert worker_of(study).step() is None and queue.of(one)[0].withdrawn


def test_what_was_taken_back_may_be_asked_for_again(study):
    queue, worker = Queue(study), worker_of(study)
    (one,) = hand_in(study, "a", 32)
    queue.submit("a", one, until="screen")
    queue.submit("b", one)
    assert worker.step().submission.agent == "a"
    assert [taken.until for taken in queue.withdraw("b", one, "a slip")] == ["bench"]  # though a's is served first
    assert [taken.until for taken in queue.withdraw("a", one, "a slip")] == ["screen"] and worker.step() is None
    again = queue.submit("c", one)
    assert again.agent == "c" and not again.withdrawn and len(queue.of(one)) == 3 and queue.submit("a", one) == again
    while worker.step():
        pass
    seconds = {account.agent: set(account.seconds) for account in queue.accounts()}
    assert seconds == {"a": {"check"}, "b": set(), "c": {"screen", "gate", "bench"}}


def test_what_was_measured_before_it_was_asked_for_is_the_authors(study):
    (one,) = hand_in(study, "a", 32)
    study.judge(study.proposal(one), Verdict("check", "passed", "fits", 2.0))
    time.sleep(0.002)  # times are in milliseconds
    Queue(study).submit("b", one, until="screen")
    assert {account.agent: account.seconds for account in Queue(study).accounts()} == {"a": {"check": 2.0}, "b": {}}


def test_a_campaign_leaves_the_confirmations_that_were_asked_for(study):
    campaign = Campaign(study, NullLaboratory(WORKLOAD), environment=ENVIRONMENT)
    campaign.run(0, 1, 1)
    queue = Queue(study)
    ids = hand_in(study, "a", *range(10, 18))
    points = [Point(str(id), 0.0, 1.0, (0, 0), (1, 1), 1.0, 1.0, 0.1, "in") for id in ids]
    for id in ids:
        queue.submit("a", id, "confirm", points)
    assert campaign.confirm() == [] and queue.confirmations() == set(ids)


def test_a_confirmation_that_is_being_measured_counts(study):
    """Of a campaign, which asks for none: an agent cannot make it nine meanwhile."""
    queue = Queue(study)
    ids = hand_in(study, "a", *range(10, 19))
    points = [Point(str(id), 0.0, 1.0, (0, 0), (1, 1), 1.0, 1.0, 0.1, "in") for id in ids]
    for id in ids[1:8]:
        queue.submit("a", id, "confirm", points)
    mine = study.proposal(ids[0])
    study.judge(mine, Verdict("bench", "passed", "fast"))
    assert queue.take_confirmation(mine, "elsewhere:1:1") and len(queue.confirmations()) == 8
    assert queue.take_confirmation(mine, "elsewhere:2:2") is False
    assert queue.take_confirmation(study.proposal(ids[8]), "elsewhere:2:2") is None
    with pytest.raises(UserError, match="at most 8 confirmations a study"):
        queue.submit("b", ids[8], "confirm", points)
    study.give_back(mine, "elsewhere:1:1")  # it was not made after all
    assert queue.submit("b", ids[8], "confirm", points).agent == "b"
    assert queue.take_confirmation(mine, "elsewhere:1:1") is None


def test_a_confirmation_is_for_the_frontier_and_eight_a_study(study):
    queue = Queue(study)
    ids = hand_in(study, "a", *range(10, 20))
    points = [Point(str(id), 0.0, 1.0, (0, 0), (1, 1), 1.0, 1.0, 0.1, "in" if id != ids[0] else "out") for id in ids]
    with pytest.raises(UserError, match="may be on the frontier"):
        queue.submit("a", ids[0], "confirm", points)
    for id in ids[1:9]:
        queue.submit("a", id, "confirm", points)
    assert queue.submit("b", ids[1], "confirm", points).agent == "a"
    with pytest.raises(UserError, match="at most 8 confirmations a study"):
        queue.submit("a", ids[9], "confirm", points)


def test_accounts_add_up(study):
    queue, worker = Queue(study), worker_of(study)
    for agent, budgets in (("a", (16, 18)), ("b", (20,))):
        for id in hand_in(study, agent, *budgets):
            queue.submit(agent, id, until="screen")
    while worker.step():
        pass
    queue.submit("c", 1, until="bench")  # of a's proposal, on the account of c
    while worker.step():
        pass
    queue.spend("a", "tokens_in", 1000)
    queue.spend("a", "tokens_in", 500, proposal=1)
    queue.spend("b", "dollars", 0.25)
    accounts = {account.agent: account for account in queue.accounts()}
    verdicts = [verdict for gates in study.verdicts().values() for verdict in gates.values()]
    assert sum(sum(account.seconds.values()) for account in accounts.values()) == pytest.approx(
        sum(verdict.seconds for verdict in verdicts)
    )
    assert set(accounts["a"].seconds) == {"check", "screen"} and set(accounts["c"].seconds) == {"gate", "bench"}
    assert accounts["a"].spent == {"tokens_in": 1500.0} and accounts["b"].spent == {"dollars": 0.25}
    assert accounts["a"].proposals == 2 and accounts["a"].by_status["passed"] == 2 and accounts["c"].proposals == 0
    for what, amount, words in (
        ("tokens", 1, "one of tokens_in, tokens_out, dollars"),
        ("dollars", -1, "from 0 on"),
        ("dollars", float("nan"), "from 0 on"),
    ):
        with pytest.raises(UserError, match=words):
            queue.spend("a", what, amount)


def test_status_of_no_gate_is_open():
    assert status_of({}) == "open"


def test_a_proposal_is_worked_on_by_one(study):
    queue = Queue(study)
    (one,) = hand_in(study, "a", 32)
    queue.submit("a", one)
    turn = queue.take("elsewhere:1:1")
    assert (
        turn.gate == "check"
        and queue.take("elsewhere:2:2") is None
        and [t.proposal.id for t in queue.waiting(busy=True)] == [one]
    )
    study.give_back(turn.proposal, "elsewhere:1:1")
    assert queue.take("elsewhere:2:2").proposal.id == one


def test_who_was_taken_for_dead_ends_nobody_elses_lease(study):
    (one,) = hand_in(study, "a", 32)
    Queue(study).submit("a", one)
    proposal = study.proposal(one)
    assert study.take("elsewhere:1:1")[0] == proposal
    with study.ledger.write() as connection:
        connection.execute(
            "INSERT INTO lease (proposal, worker, until) VALUES (?, 'elsewhere:1:1', 1)", (one,)
        )  # it ran out
    assert study.take("elsewhere:2:2")[0] == proposal
    study.renew(proposal, "elsewhere:1:1")
    study.give_back(proposal, "elsewhere:1:1")
    assert study.take("elsewhere:3:3") is None and Queue(study).take("elsewhere:3:3") is None
    study.give_back(proposal, "elsewhere:2:2")
    assert study.take("elsewhere:3:3")[0] == proposal


def test_a_campaign_renews_its_lease_while_it_measures(study, monkeypatch):
    monkeypatch.setattr("vortex_attention.discover.worker.LEASE_SECONDS", 0.03)
    campaign, leases = Campaign(study, NullLaboratory(WORKLOAD), environment=ENVIRONMENT), []

    def slow(*_):
        time.sleep(0.2)
        leases.append(study.ledger.rows("SELECT count(*) AS n FROM lease WHERE until > 0")[0]["n"])

    monkeypatch.setattr("vortex_attention.discover.campaign.judge", slow)
    (one,) = hand_in(study, "a", 32)
    proposal, gate = study.take(campaign.worker)
    campaign._judge(proposal, gate)
    assert leases[0] > 1


def test_a_file_in_the_way_of_the_devices_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"vortex-{os.getuid()}.device").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        MachineError,
        match=r"\[discover\] a file that says who measures, .*\.device; .*; remove what stands there, or set TMPDIR to a folder of your own",
    ):
        with device.held("bench"):
            pass


def test_a_worker_of_another_host_counts_for_a_day(study):
    study.ledger.add_event("worker", study.name, {"state": "began"}, actor="elsewhere:1:1")
    with study.ledger.write() as connection:
        connection.execute(
            "INSERT INTO event (at, kind, subject, actor, body) VALUES ('2020-01-01T00:00:00.000+00:00', 'worker', ?, 'gone:1:1', ?)",
            (study.name, '{"state":"began"}'),
        )
    assert at_work(study) == ["elsewhere:1:1"]


def test_presence_is_known(study):
    assert at_work(study) == [] and last_failure(study) == ""
    name = worker_of(study).name
    with present(study, name):
        assert at_work(study) == [name]
    with pytest.raises(MemoryError), present(study, name):
        raise MemoryError("no memory for the model")
    assert at_work(study) == [] and last_failure(study) == "no memory for the model"


@pytest.mark.slow
def test_a_worker_outlives_who_started_it_and_ends_when_idle(study, tmp_path):
    """The process that started it is killed at once; what was submitted is measured."""
    queue = Queue(study)
    for id in hand_in(study, "a", 16, 18):
        queue.submit("a", id)
    code = (
        "import sys, time; from vortex_attention.discover.study import Study; from vortex_attention.discover.worker import start;"
        "from vortex_attention.ledger import Ledger; print(start(Study.open(Ledger.open(sys.argv[1]), 'one'), idle=1.0), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "ledger.sqlite")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    name = process.stdout.readline().strip()
    process.kill()
    process.wait()
    assert at_work(study) == [name] and start(study) is None
    deadline = time.monotonic() + 60
    while at_work(study) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert all(
        list(gates) == ["check", "screen", "gate", "bench"] for gates in study.verdicts().values()
    ) and not at_work(study)
    assert last_failure(study) == "" and not queue.waiting()
