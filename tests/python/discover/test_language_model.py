"""The agent that asks a language model, against an endpoint that answers well, brokenly, maliciously, repetitively, slowly, and not at all."""

import contextlib
import time
from dataclasses import replace

import pytest
from scripted_endpoint import Scripted, drips, hangs, says, sends

from vortex_attention import MachineError, UserError, flows
from vortex_attention.discover import agents
from vortex_attention.discover.agents import answers, make
from vortex_attention.discover.campaign import Campaign
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.null import NullLaboratory
from vortex_attention.discover.queue import Queue
from vortex_attention.discover.study import ANSWERED, FAILED, PASSED, Study
from vortex_attention.ledger import Ledger

WORKLOAD = Workload(screen_items=4, gate_items=8, confirm_items=16)

FLOW = """import vortex_attention as vx

class {name}(vx.vFlow):
    budget = {budget}

    def summarize(self, page):
        page.seen = page.k.{reduction}("token")

    def score(self, q, page):
        return vx.dot(q, page.seen, over="dim").softmax("page").sum("head")
"""


def flow(budget=40, reduction="mean", name="Found"):
    return FLOW.format(name=name, budget=budget, reduction=reduction)


def variant(source, hypothesis="it is better", parents=""):
    return f"hypothesis: {hypothesis}\nparents: {parents}\n```python\n{source}```\n\n"


GOOD = "".join(variant(flow(budget), f"{budget} pages are enough", "1, 999999") for budget in (40, 44, 48, 52))


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


@contextlib.contextmanager
def asked(ledger, *script, rounds=1, **options):
    """The campaign after its rounds, and the endpoint."""
    with Scripted(script) as endpoint:
        options = {"seconds": 20.0, "tries": 2, "wait": lambda seconds: None, **options}
        agent = make("openai", 1, base_url=endpoint.url, model_name="scripted", **options)
        campaign = Campaign(Study.open(ledger, "one", {"seed": 1}), NullLaboratory(WORKLOAD),
                            environment={"device": "null", "commit": "0", "dirty": False}, agent=agent)  # fmt: skip
        campaign.run(rounds, 4, 1)
        yield campaign, endpoint


def proposed(campaign, number=2):
    verdicts = campaign.study.verdicts()
    return [
        (proposal, verdicts.get(proposal.id, {})) for proposal in campaign.study.proposals() if proposal.round == number
    ]


def account(campaign):
    return next(account for account in Queue(campaign.study).accounts() if account.agent == "openai:scripted")


def test_good_answers_are_proposed_and_measured(ledger):
    with asked(ledger, GOOD, dollars=(2.0, 10.0)) as (campaign, endpoint):
        found = proposed(campaign)
        assert [proposal.hypothesis for proposal, _ in found] == [f"{n} pages are enough" for n in (40, 44, 48, 52)]
        assert all(proposal.author == "openai:scripted" and proposal.parents == (1,) for proposal, _ in found)
        assert all(gates["check"].status == PASSED and "screen" in gates for _, gates in found)
        assert len(endpoint.requests) == 1 and endpoint.headers[0][0] == "/v1/chat/completions"
        assert account(campaign).spent == pytest.approx({"tokens_in": 1000, "tokens_out": 200, "dollars": 0.004})


def test_the_question_holds_the_language_the_frontier_and_the_failures(ledger):
    bad = variant("class X: pass\n")
    with asked(ledger, bad, bad, GOOD, rounds=2) as (campaign, endpoint):
        system, user = (message["content"] for message in endpoint.requests[0]["messages"])
        assert all(f"\n{op}(" in system for op in ("softmax", "top_k", "low_frequency", "page_state"))
        assert flows.load("quest").source in system and "30 layers, 3 query heads" in user
        assert "slow_means" in user or "SlowMeans" in user
        assert "Propose 4 new flows" in user and "Nothing has failed" in user
        again = endpoint.requests[2]["messages"][1]["content"]
        assert "What failed, latest first:\ncheck: [proposal.py" in again


def test_an_error_goes_back_once_and_the_repair_takes_its_place(ledger):
    broken = flow().replace('.softmax("page").sum("head")', "")
    first = variant(broken, "heads alone", "2") + variant(flow(44), "fine")
    with asked(ledger, first, "Sorry.\n```python\n" + flow(36) + "```") as (campaign, endpoint):
        assert len(endpoint.requests) == 2
        said = endpoint.requests[1]["messages"][-1]["content"]
        assert (
            "variant 1: [proposal.py" in said and "score must be one number a page" in said and "variant 2" not in said
        )
        (one, gates), (other, _) = proposed(campaign)
        assert (
            gates["check"].status == PASSED
            and one.hypothesis == "heads alone"
            and one.parents == (2,)
            and "budget = 36" in one.source
        )
        assert other.hypothesis == "fine" and account(campaign).spent["tokens_in"] == 2000


def test_what_stays_broken_is_a_proposal_with_its_reason(ledger):
    broken = variant(flow().replace("vx.dot", "vx.dto"))
    with asked(ledger, broken) as (campaign, endpoint):
        ((_, gates),) = proposed(campaign)
        assert (
            len(endpoint.requests) == 2
            and gates["check"].status == FAILED
            and "no attribute 'dto'" in gates["check"].reason
        )


@pytest.mark.parametrize("answer", ["I cannot do that.", "", sends(200, b"<html>"), sends(200, b"{}"), sends(200, b'{"choices": []}'),
                                    sends(200, b"[" * 200_000), sends(200, b'{"choices": [{"message": {"content": null}}]}')])  # fmt: skip
def test_an_answer_without_flows_is_asked_again_and_then_written_down(ledger, answer):
    with asked(ledger, answer) as (campaign, endpoint):
        assert "No block of Python was found" in endpoint.requests[1]["messages"][-1]["content"]
        ((_, gates),) = proposed(campaign)
        assert gates["check"].status == FAILED and "an answer without any, twice" in gates["check"].reason


def test_repetition_is_answered_by_the_ledger(ledger):
    with asked(ledger, GOOD + GOOD, "".join(variant(flow(40, name=f"Same{n}")) for n in range(4)), rounds=2) as (
        campaign,
        _,
    ):
        assert [gates["check"].status for _, gates in proposed(campaign, 2)] == [PASSED] * 4
        repeated = proposed(campaign, 3)
        assert len(repeated) == 4 and {gates["check"].status for _, gates in repeated} == {ANSWERED}
        runs = [gate.run for _, gates in repeated for gate in gates.values()]
        assert not any(runs)


HOSTILE = ["import os\nos.system('touch OWNED')\nopen('OWNED', 'w')\n", "open('/etc/passwd').read()\n", "while True: pass\n",
           "import socket\nsocket.socket()\n"]  # fmt: skip


@pytest.mark.slow
def test_hostile_code_is_refused_by_the_sandbox(ledger, tmp_path):
    owned = tmp_path / "owned"
    hostile = "".join(
        variant(line.replace("OWNED", str(owned)) + flow(), "\x1b[2Jpwned <script>alert(1)</script>" + "x" * 10_000)
        for line in HOSTILE
    )
    with asked(ledger, hostile) as (campaign, _):
        found = proposed(campaign)
        assert (
            len(found) == 4
            and all(gates["check"].status == FAILED and len(gates) == 1 for _, gates in found)
            and not owned.exists()
        )
        assert all("\x1b" not in proposal.hypothesis and len(proposal.hypothesis) <= 2000 for proposal, _ in found)


def test_hostile_counts_are_not_believed(ledger):
    with asked(ledger, says(GOOD, usage=(-5, 1 << 60))) as (campaign, endpoint):
        spent = account(campaign).spent
        assert spent["tokens_out"] == -(-len(GOOD) // 4) and 1000 < spent["tokens_in"] < 100_000


def test_a_redirect_is_not_followed_and_the_key_stays_here(ledger, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    with Scripted([GOOD]) as elsewhere:
        away = sends(307, b"", [("Location", elsewhere.url + "/chat/completions")])
        with pytest.raises(UserError, match=r"\[endpoint\] an answer of http://127.0.0.1.*status 307") as error:
            with asked(ledger, away, api_key_env="SOME_KEY"):
                pass
        assert not elsewhere.requests and "sk-very-secret" not in str(error.value)


def test_a_key_that_is_said_back_is_not_shown(ledger, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    with pytest.raises(UserError, match=r"status 401: bad key \[key\]; check --base-url, --model-name and the key"):
        with asked(ledger, sends(401, b"bad key sk-very-secret"), api_key_env="SOME_KEY") as (_, endpoint):
            pass


def test_a_key_in_an_answer_does_not_reach_the_ledger(ledger, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    said = variant(flow() + "# sk-very-secret\n", "by sk-very-secret")
    with asked(ledger, said, api_key_env="SOME_KEY") as (campaign, _):
        ((proposal, gates),) = proposed(campaign)
        assert gates["check"].status == PASSED and proposal.source.endswith("# [key]\n")
        assert proposal.hypothesis == "by [key]"


def test_the_question_says_what_is_asked_of_flows(ledger):
    with Scripted([GOOD]) as endpoint:
        agent = make("openai", 1, base_url=endpoint.url, model_name="scripted", seconds=20.0)
        laboratory = NullLaboratory(replace(WORKLOAD, suite="ruler", tasks=("vt", "fwe")))
        agent.drafts(Study.open(ledger, "one", {"seed": 1}), [], laboratory, 1, 4)
        assert "accuracy on ruler's tasks vt, fwe in 4096 tokens." in endpoint.requests[0]["messages"][1]["content"]


def test_what_may_pass_is_tried_again(ledger):
    with asked(ledger, sends(429, b"slow down"), GOOD) as (campaign, endpoint):
        assert len(endpoint.requests) == 2 and len(proposed(campaign)) == 4


@pytest.mark.parametrize("answer, seconds, says_so", [
    (sends(503, b"overloaded"), 20.0, "status 503: overloaded, 2 times"), (sends(200, b" " * (5 << 20)), 20.0, "more than 4 MiB, 2 times"),
    (drips(0.05), 0.5, "no whole answer in 0.5 s, 2 times"), (hangs, 0.5, "ReadTimeout")])  # fmt: skip
def test_an_endpoint_that_does_not_answer_stops_the_study_which_goes_on_later(ledger, answer, seconds, says_so):
    began = time.monotonic()
    with pytest.raises(MachineError, match=says_so):
        with asked(ledger, answer, seconds=seconds):
            pass
    assert seconds > 1 or time.monotonic() - began < 15
    with asked(ledger, GOOD, seconds=20.0) as (campaign, _):
        assert len(proposed(campaign)) == 4


def test_nobody_at_the_address(ledger):
    with Scripted([GOOD]) as gone:
        url = gone.url
    agent = make("openai", 1, base_url=url, model_name="none", tries=2, wait=lambda seconds: None)
    study = Study.open(ledger, "one", {"seed": 1})
    with pytest.raises(
        MachineError, match=r"ConnectError.*2 times; the study goes on from here when it is started again"
    ):
        agent.drafts(study, [], NullLaboratory(WORKLOAD), 2, 4)


def test_a_study_spends_no_more_tokens_than_it_may(ledger):
    with pytest.raises(UserError, match=r"at most 1500 tokens for study one; 2400 are spent; raise --most-tokens"):
        with asked(ledger, GOOD, rounds=3, most_tokens=1500):
            pass


@pytest.mark.parametrize("options, words", [({"base_url": "host/v1", "model_name": "m"}, "--base-url"), ({"base_url": "http://h/v1", "model_name": ""}, "--model-name"),
                                            ({"base_url": "http://h/v1", "model_name": "m", "api_key_env": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE is not set")])  # fmt: skip
def test_what_is_missing_is_said(options, words):
    with pytest.raises(UserError, match=words):
        make("openai", 1, **options)


def test_answers_are_read_whatever_they_look_like():
    assert answers.read("", 4) == [] and answers.read("no code", 4) == []
    one, two = answers.read("**Hypothesis:** a\nParents: #3 and 4\n```py\nx\n```\ntext\n```\ny", 4)
    assert (one.hypothesis, one.parents, one.source) == ("a", (3, 4), "x\n")
    assert two.source == "y" and two.hypothesis == "none was given"
    assert len(answers.read("```python\nx\n```\n" * 50, 4)) == 4


@pytest.mark.parametrize("said", ["hypothesis: x" + "\n" * 400_000 + "!", "parents: " + "1" * 400_000, "parents: " + "1 " * 200_000])  # fmt: skip
def test_an_answer_is_read_in_the_time_of_its_length(said):
    began = time.monotonic()
    (one,) = answers.read(f"{said}\n```python\nx\n```", 4)
    assert one.source == "x\n" and one.parents in ((), (1,))
    assert time.monotonic() - began < 20, "a square of the length takes hours"


def test_prices_are_two_numbers():
    assert agents.prices("2.5,10") == (2.5, 10.0)
    for wrong in ("1", "a,b", "1,2,3", "-1,2", "nan,1"):
        with pytest.raises(UserError, match=r"\[--dollars\] two prices from 0 on, as 2.5,10"):
            agents.prices(wrong)


def test_an_address_without_the_agent_that_asks_it_is_refused(capsys, tmp_path):
    from vortex_attention.cli.app import main

    assert main(["discover", "--base-url", "http://h/v1", "--evaluator", "null", "--ledger", str(tmp_path / "l")]) == 2
    assert (
        "[--base-url] an agent that asks an endpoint; --agent built-in; say --agent openai" in capsys.readouterr().err
    )
