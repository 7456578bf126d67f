"""`vortex study`: how verbs look on the command line, for people and with --json."""

import json

import pytest

from vortex_attention.cli.app import main
from vortex_attention.discover import verbs
from vortex_attention.discover.study import Study
from vortex_attention.ledger import Ledger


@pytest.fixture
def run(tmp_path, capsys):
    def call(*arguments, code=0):
        assert main([*arguments, "--ledger", str(tmp_path / "l.sqlite")]) == code
        shown = capsys.readouterr()
        return shown.out if code == 0 else shown.err or shown.out

    call("study", "begin", "--study", "one", "--evaluator", "null", "--items", "8")
    return call


def test_people_read_tables_and_machines_records(run):
    one = json.loads(
        run(
            "study",
            "propose",
            "quest",
            "the ready one",
            "--study",
            "one",
            "--set",
            "budget=24",
            "--agent",
            "me",
            "--json",
        )
    )
    assert one["proposal"] == 1 and one["status"] == "open"
    assert "budget=24" in run("study", "result", "1", "--study", "one")
    assert json.loads(run("study", "submit", "1", "--study", "one", "--no-worker", "--json"))["job"] == "queued"
    lines = [
        json.loads(line) for line in run("study", "work", "--study", "one", "--idle", "0.1", "--json").splitlines()
    ]
    assert [line["gate"] for line in lines] == ["check", "screen", "gate", "bench"] and {
        line["status"] for line in lines
    } <= {"passed"}
    shown = run("study", "wait", "1", "--study", "one", "--no-worker")
    assert "done" in shown and "times full attention" in shown
    assert "Quest" in run("study", "frontier", "--study", "one", "--all") and "me" in run(
        "study", "accounts", "--study", "one"
    )
    listed = json.loads(run("study", "flows", "--study", "one", "--json"))
    assert [row["proposal"] for row in listed["proposals"]] == [1]


def test_a_class_of_a_file_and_a_config(run, tmp_path):
    one = "class {}(vx.vFlow):\n    budget = 9\n    def score(self, q, page):\n        return page.index\n"
    text = "import vortex_attention as vx\n" + one.format("A") + one.format("B")
    (tmp_path / "two.py").write_text(text)
    both = json.loads(run("study", "check", str(tmp_path / "two.py"), "--study", "one", "--json"))
    assert (
        not both["right"]
        and both["error"]["required"] == "a file of several flows needs a name"
        and both["error"]["came"] == "A, B"
    )
    assert json.loads(run("study", "check", f"{tmp_path / 'two.py'}:B", "--study", "one", "--json"))["name"] == "B"


def test_what_others_wrote_cannot_speak_to_the_terminal(run):
    run("study", "propose", "quest", "\x1b[2J[bold]x[/bold]\x9b", "--study", "one", "--json")
    for shown in (run("study", "flows", "--study", "one"), run("study", "result", "1", "--study", "one")):
        assert "\x1b" not in shown and "\x9b" not in shown and "[bold]" in shown


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["study", "submit", "9", "--study", "one"], "it has none"),
        (["study", "frontier", "--study", "on"], 'did you mean "one"?'),
        (["study", "check", "nope.py", "--study", "one"], "a flow file that can be read"),
        (["study", "propose", "quest", "h", "--study", "one", "--set", "budget"], "NAME=VALUE, for example budget=32"),
        (["study", "begin", "--study", "one", "--evaluator", "real"], "the settings that study one began with"),
        (["publish", "1", "--study", "one"], "it has none"),
    ],
)
def test_errors_are_those_of_all_commands(run, arguments, words):
    assert words in run(*arguments, code=2)
    assert words in json.loads(run(*arguments, "--json", code=2))["error"]["message"]


@pytest.mark.parametrize("command", ["study frontier", "study work", "study begin", "publish 1", "mcp", "discover"])
def test_a_study_lives_in_a_ledger(capsys, command):
    """The word that elsewhere means that nothing is recorded is no name of a file, and the help says so."""
    assert main([*command.split(), "--ledger", "none"]) == 2
    assert "[--ledger] a file: a study lives in a ledger; none; leave it out, or name a file" in capsys.readouterr().err
    assert main([*command.split()[:2], "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "none is refused" in shown and "nowhere" not in shown


@pytest.mark.parametrize(
    "begin", [["study", "begin"], ["discover", "--rounds", "0", "--start", "nothing", "--no-confirm"]]
)
def test_a_models_path_is_kept_whole(tmp_path, monkeypatch, capsys, begin):
    """A worker may start in another folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for given, kept in (
        ("mine", str(tmp_path / "mine")),
        ("not/there.gguf", str(tmp_path / "not/there.gguf")),
        ("smollm2", "smollm2"),
        ("odd", "odd"),
    ):
        assert (
            main([*begin, "--study", given, "--model", given, "--evaluator", "null", "--ledger", "l.sqlite", "--json"])
            == 0
        )
        with Ledger.open(tmp_path / "l.sqlite") as ledger:
            assert Study.open(ledger, given).settings["workload"]["model"] == kept
    capsys.readouterr()


def test_schemas_are_printed(capsys):
    assert main(["study", "schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [one["verb"] for one in printed] == list(verbs.VERBS) and all(
        one["about"] and one["input"] and one["output"] for one in printed
    )
    assert main(["study", "schema", "propos"]) == 2
