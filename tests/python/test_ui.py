"""The live page: what it says of a study, that it follows one that is being written, what it refuses, that nothing untrusted is markup."""

import http.client
import json
import re
import shutil
import subprocess
import threading
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vortex_attention import UserError, load_flow
from vortex_attention.cli.app import main
from vortex_attention.discover.campaign import Campaign
from vortex_attention.discover.claims import FASTER, MORE_ACCURATE
from vortex_attention.discover.confirmations import ready_of
from vortex_attention.discover.history import growth
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.null import NullLaboratory
from vortex_attention.discover.queue import Queue
from vortex_attention.discover.study import FAILED, PASSED, Draft, Study, Verdict, this_worker
from vortex_attention.ledger import Ledger
from vortex_attention.ui import Server, Watch
from vortex_attention.ui.proposal import details, ir_difference
from vortex_attention.ui.server import files

WORKLOAD = Workload(screen_items=4, gate_items=8, confirm_items=16)
HOSTILE = "</td><script>window.stolen=1</script><img src=x onerror='window.stolen=1'>\u202e\x1b[31m"


class Tags(HTMLParser):
    """Elements of a page, addresses of its scripts, attributes that would run."""

    def __init__(self):
        super().__init__()
        self.found, self.scripts, self.handlers = set(), [], []

    def handle_starttag(self, tag, attributes):
        self.found.add(tag)
        self.scripts += [dict(attributes).get("src")] if tag == "script" else []
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A ledger with a campaign of two rounds, and one hostile proposal."""
    path = tmp_path_factory.mktemp("ui") / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        study = Study.open(ledger, "one & <two>", {"seed": 1, "workload": WORKLOAD.to_json()})
        campaign = Campaign(
            study, NullLaboratory(WORKLOAD), environment={"device": "null", "commit": "0", "dirty": False}
        )
        campaign.run(2, 4, seed=1)
        (bad,) = study.propose(
            HOSTILE, [Draft(None, HOSTILE, HOSTILE, refused=f"[x.py:1] a flow; {HOSTILE}; write one")]
        )
        campaign.confirm()
        yield ledger, study, bad.id


@pytest.fixture
def server(written):
    with Ledger.open(written[0].path, create=False) as reading, Server(reading) as server:
        yield server.in_background()


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(server.url).port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def state_of(server, name="one & <two>"):
    return json.loads(ask(server, f"/api/study?{urllib.parse.urlencode({'study': name})}")[1])


def test_the_state_holds_what_the_study_holds(written, server):
    ledger, study, bad = written
    state = state_of(server)
    verdicts = study.verdicts()
    assert {row["id"] for row in state["proposals"]} == {proposal.id for proposal in study.proposals()}
    for row in state["proposals"]:
        assert {gate: found["status"] for gate, found in row["gates"].items()} == {
            gate: verdict.status for gate, verdict in verdicts[row["id"]].items()
        }
    assert {point["state"] for point in state["points"]} <= {"in", "out", "undecided"} and len(state["points"]) >= 8
    assert next(row for row in state["proposals"] if row["id"] == bad)["state"] == "failed"
    assert [row["count"] for row in state["failures"] if row["proposals"] == [bad]] == [1]
    spent = sum(verdict.seconds for gates in verdicts.values() for verdict in gates.values())
    assert state["cost"]["seconds"] == pytest.approx(spent)
    by_agent = sum(sum(row["seconds"].values()) for row in state["cost"]["agents"])
    assert by_agent == pytest.approx(spent) and state["working"] == []
    found = {row["proposal"] for row in state["confirmed"]} - ready_of(study)
    kinds = [(one["proposal"], one["kind"]) for one in state["claims"]]
    assert found and sorted(kinds) == sorted((id, kind) for id in found for kind in (FASTER, MORE_ACCURATE))


def test_the_frontier_as_it_stood_after_a_round(written, server):
    name = urllib.parse.urlencode({"study": "one & <two>"})
    sizes = [len(json.loads(ask(server, f"/api/frontier?{name}&round={round}")[1])["points"]) for round in (1, 2, 3)]
    assert sizes == sorted(sizes) and 0 < sizes[0] < sizes[2] == len(state_of(server)["points"])


def test_the_curve_never_falls(written):
    curve = growth(written[1].measured())
    assert len(curve) >= 8 and all(a.center <= b.center + 1e-9 for a, b in zip(curve, curve[1:]))
    assert all(one.low <= one.center <= one.high for one in curve) and growth([]) == []


def test_a_server_in_the_background_ends_with_its_context(written):
    with Ledger.open(written[0].path, create=False) as reading, Server(reading) as server:
        server.in_background()
        assert ask(server, "/api/studies")[0].status == 200
        assert "vortex-ui" in {thread.name for thread in threading.enumerate()}
    assert "vortex-ui" not in {thread.name for thread in threading.enumerate()}


def test_a_study_that_is_being_written_is_followed(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as writing:
        study = Study.open(writing, "live", {"seed": 1})
        with Ledger.open(path, create=False) as reading:
            watch = Watch(reading)
            before, state = watch.state("live")
            assert state["proposals"] == []
            one, other = study.propose(
                "me",
                [Draft(load_flow("quest"), "quest", "better"), Draft(load_flow("centroid"), "centroid", "better")],
                round=1,
            )
            taken, gate = study.take(this_worker())
            after, state = watch.state("live")
            assert after != before and [row["state"] for row in state["proposals"]] == ["measuring", "measuring"]
            assert [(row["proposal"], row["gate"]) for row in state["working"]] == [(one.id, "check")]
            study.judge(one, Verdict("check", PASSED, "fits", 0.5))
            study.judge(other, Verdict("check", FAILED, "needs 3 bytes more", 0.25))
            study.give_back(taken, this_worker())
            state = watch.state("live")[1]
            assert state["working"] == [] and [row["state"] for row in state["proposals"]] == ["measuring", "failed"]
            assert (
                state["failures"][0]["reason"] == "needs # bytes more"
                and state["failures"][0]["example"] == "needs 3 bytes more"
            )
            assert state["cost"]["seconds"] == 0.75


def test_submissions_have_turns_and_agents_have_accounts(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        study = Study.open(ledger, "one", {"seed": 1})
        first, second, third = (study.propose(agent, [Draft(load_flow(flow), flow, "better")])[0] for agent, flow in (("a", "quest"), ("a", "centroid"), ("b", "slow_means")))  # fmt: skip
        queue = Queue(study)
        queue.submit("a", first.id, "screen")
        queue.submit("b", third.id)
        queue.spend("b", "tokens_in", 1200.0)
        watch = Watch(ledger)
        state = watch._state(watch.open("one"))
        assert {row["id"]: row["state"] for row in state["proposals"]} == {
            first.id: "measuring",
            second.id: "proposed",
            third.id: "measuring",
        }
        assert [(turn["proposal"], turn["gate"], turn["agent"]) for turn in state["queue"]] == [
            (first.id, "check", "a"),
            (third.id, "check", "b"),
        ]
        assert [(row["agent"], row["proposals"], row["submissions"], row["spent"]) for row in state["cost"]["agents"]] == [("a", 2, 1, {}), ("b", 1, 1, {"tokens_in": 1200.0})]  # fmt: skip


@pytest.mark.slow
def test_a_retracted_run_leaves_the_numbers(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        study = Study.open(ledger, "one", {"seed": 1, "workload": WORKLOAD.to_json()})
        campaign = Campaign(
            study, NullLaboratory(WORKLOAD), environment={"device": "null", "commit": "0", "dirty": False}
        )
        campaign.run(0, 4, seed=1)
        campaign.confirm()
        watch = Watch(ledger)
        state = watch._state(watch.open("one"))
        victim = state["confirmed"][0]["proposal"]
        for verdict in study.verdicts()[victim].values():
            if verdict.run:
                ledger.retract(verdict.run, "wrong prompt")
        after = watch._state(watch.open("one"))
        assert (
            victim not in [one["proposal"] for one in after["confirmed"]]
            and len(after["points"]) == len(state["points"]) - 1
        )
        assert next(row for row in after["proposals"] if row["id"] == victim)["state"] == "retracted"


def test_a_proposal_with_all_that_is_known_of_it(written):
    _, study, bad = written
    child = next(
        proposal for proposal in study.proposals() if proposal.parents and "bench" in study.verdicts()[proposal.id]
    )
    found = details(study, child.id)
    assert found["ir"].startswith("vortex_ir") and found["price"]["attend_bytes"] > 0
    assert [one["parent"] for one in found["differences"]] == list(child.parents)
    assert any(sign == "+" for sign, _ in found["differences"][0]["ir"]) or any(
        sign == "-" for sign, _ in found["differences"][0]["ir"]
    )
    gate = next(run for run in found["runs"] if run["gate"] == "gate")
    assert len(gate["items"]) == WORKLOAD.gate_items and {"log_probability", "kl"} <= set(gate["items"][0]["flow"])
    bench = next(run for run in found["runs"] if run["gate"] == "bench")
    assert len(bench["ratios"]) == WORKLOAD.rounds
    assert child.id in details(study, child.parents[0])["children"]
    assert details(study, bad)["source"] == HOSTILE and details(study, bad)["ir"] == ""
    with pytest.raises(UserError, match=r"\[ui\] a proposal of study one & <two>; 999999; see the list of proposals"):
        details(study, 999999)


def test_numbers_of_values_are_no_difference():
    before = 'flow "a"\n%0 = q() : f32[dim] @row ; 3\n%1 = abs(%0) : f32[dim] @row\nscore = %1\n'
    shifted = (
        'flow "b"\n%0 = seq_left() : f32[] @row\n%1 = q() : f32[dim] @row\n%2 = abs(%1) : f32[dim] @row\nscore = %2\n'
    )
    assert ir_difference(before, before) == [
        [" ", "%0 = q() : f32[dim] @row"],
        [" ", "%1 = abs(%0) : f32[dim] @row"],
        [" ", "score = %1"],
    ]
    assert [line for line in ir_difference(before, shifted) if line[0] != " "] == [
        ["+", "%0 = seq_left() : f32[] @row"]
    ]
    gone = [line for line in ir_difference(shifted, before) if line[0] != " "]
    assert gone == [["-", "%0 = seq_left() : f32[] @row"]]


def test_only_this_machine_is_answered_and_only_when_it_reads(server):
    assert server.url.startswith("http://127.0.0.1:")
    for host in ("evil.example", "127.0.0.1.evil.example:80", ""):
        answer, body = ask(server, "/api/studies", Host=host)
        assert (
            answer.status == 403 and "[ui] a request to 127.0.0.1 or localhost" in json.loads(body)["error"]["message"]
        )
    for host in ("localhost:9999", "127.0.0.1", "[::1]:80"):
        assert ask(server, "/api/studies", Host=host)[0].status == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, "/api/studies", method)[0].status == 501
    answer, body = ask(server, "/", "HEAD")
    assert answer.status == 200 and body == b""


def test_what_is_not_there_is_said(server):
    for path, words in (
        ("/api/study?study=on", r"\[discover\] a study of this ledger: one & <two>; \"on\""),
        ("/../../etc/passwd", r"\[ui\] /, /api/studies, .*open /"),
        ("/api/frontier?study=x&round=-1", r"\[ui\] a whole number round; '-1'; say round=1"),
        ("/api/proposal?study=one+%26+%3Ctwo%3E&id=7e9", r"\[ui\] a whole number id"),
        ("/api/proposal?study=one+%26+%3Ctwo%3E&id=777777", r"\[ui\] a proposal of study"),
    ):
        answer, body = ask(server, path)
        assert answer.status == 404 and re.search(words, json.loads(body)["error"]["message"]), body


def test_our_own_failures_are_said_too(server, monkeypatch):
    def broken(name):
        raise KeyError("point")

    monkeypatch.setattr(server.watch, "state", broken)
    answer, body = ask(server, "/api/study?study=x")
    assert (
        answer.status == 500
        and "KeyError: 'point'; this is a defect of Vortex, please report it" in json.loads(body)["error"]["message"]
    )


def test_an_unchanged_study_is_not_sent_again(server):
    path = f"/api/study?{urllib.parse.urlencode({'study': 'one & <two>'})}"
    tag = ask(server, path)[0].headers["ETag"]
    answer, body = ask(server, path, **{"If-None-Match": tag})
    assert answer.status == 304 and body == b""


def test_nothing_but_its_own_files_runs(server):
    answer, body = ask(server, "/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'self'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path, (kind, text) in files().items():
        answer, sent = ask(server, path)
        assert answer.status == 200 and answer.headers["Content-Type"].startswith(kind) and sent == text
        outside = [url for url in re.findall(rb"https?://[^\s\"'<>)]+", text) if url != b"http://www.w3.org/2000/svg"]
        assert outside == []
        if kind == "text/javascript":
            assert not re.search(
                rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.srcdoc|javascript:",
                text,
            )
        if path == "/":
            assert not re.search(rb"\sstyle=|\son\w+=|<script(?![^>]*src=)", text)


def test_ports_and_studies_that_cannot_be_had(written, server, capsys):
    ledger, port = str(written[0].path), urllib.parse.urlsplit(server.url).port
    assert main(["ui", "--ledger", ledger, "--port", str(port)]) == 3
    assert re.search(
        rf"\[ui\] port {port} of 127\.0\.0\.1; .*; choose another with --port, or 0 for a free one",
        capsys.readouterr().err,
    )
    assert main(["ui", "--ledger", ledger, "--study", "nobody", "--port", "0"]) == 2
    assert "a study of this ledger" in capsys.readouterr().err
    assert main(["ui", "--ledger", ledger + ".not", "--port", "0"]) == 2


@pytest.mark.slow
def test_the_page_in_a_browser_follows_what_is_written(tmp_path, monkeypatch):
    """After the browser has asked for the study the second time, a proposal is written; the page it then holds shows it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on the path")
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as writing, Ledger.open(path, create=False) as reading, Server(reading) as server:
        study = Study.open(writing, "live", {"seed": 1})
        asked, state = [], server.watch.state

        def watched(name):
            asked.append(name)
            if len(asked) == 3:
                study.propose("me", [Draft(load_flow("quest"), "quest", "an idea that came later")], round=1)
            return state(name)

        monkeypatch.setattr(server.watch, "state", watched)
        server.in_background()
        shown = subprocess.run(
            [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=30000", "--dump-dom", server.url],
            capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert (
        len(asked) > 3
        and "an idea that came later" in shown.stdout
        and "In progress: ready, 0 of 1 done" in shown.stdout
    )


@pytest.mark.slow
def test_a_browser_draws_it_and_runs_nothing_of_a_flow(written, server, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on the path")
    for fragment in ("", f"proposal={written[2]}"):
        shown = subprocess.run(
            [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom",
             f"{server.url}#{fragment}"], capture_output=True, text=True, timeout=120, cwd=Path(tmp_path))  # fmt: skip
        page = shown.stdout
        assert "In progress" in page or "Latest: " in page
        for title in (
            "Frontier",
            "Frontier over time",
            "Accuracy by iteration",
            "Throughput by iteration",
            "Family tree",
            "Where proposals ended",
            "Cost",
        ):
            assert f"<h2>{title}</h2>" in page
        tags = Tags()
        tags.feed(page)
        assert (
            tags.scripts == ["/main.js"]
            and not tags.found & {"img", "iframe", "object", "embed", "base", "form"}
            and tags.handlers == []
        )
        assert "&lt;script&gt;window.stolen=1" in page and "\u202e" not in page and "\x1b" not in page
        if fragment:
            assert re.search(r"<dialog[^>]*\sopen", page) and f"Proposal {written[2]}" in page
