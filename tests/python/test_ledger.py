"""The ledger: what goes in comes out, nothing is changed or lost, other versions and other files are met in words."""

import csv
import json
import multiprocessing
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from vortex_attention import flows
from vortex_attention.cli.app import main
from vortex_attention.errors import MachineError, UserError
from vortex_attention.ledger import Block, Ledger, Outcome, accuracy_key, canonical_json, schema
from vortex_attention.ledger.export import export, table

ENVIRONMENT = {
    "commit": "abc",
    "dirty": False,
    "device": "a machine",
    "driver": "1.2",
    "cores": 2,
    "libraries": {"numpy": "2"},
}


def begin(ledger, kind="accuracy", **changes):
    values = dict(
        suite="needle",
        model="tiny",
        model_sha256="f" * 64,
        numerics="1 avx2",
        settings={"length": 64, "seed": 1},
        environment=ENVIRONMENT,
    )
    return ledger.run(kind, **(values | changes))


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


QUEST = flows.ready("quest")


def test_outcomes_come_back_under_an_equal_key(ledger):
    with begin(ledger) as run:
        full, quest = run.arm("full"), run.arm("quest", QUEST)
        run.add_outcomes([(full, "a", Outcome({"exact": True, "kl": 0.0}, {"attended_tokens": 64.0}), None),
                          (quest, "a", Outcome({"exact": False, "kl": 0.25}), None)])  # fmt: skip
    with begin(ledger) as again:
        assert ledger.outcomes(again.key_of(QUEST)) == {"a": (quest.id, Outcome({"exact": False, "kl": 0.25}))}
        assert ledger.outcomes(again.key_of()) == {
            "a": (full.id, Outcome({"exact": True, "kl": 0.0}, {"attended_tokens": 64.0}))
        }


@pytest.mark.parametrize(
    "changes",
    [{"suite": "ruler"}, {"model_sha256": "0" * 64}, {"numerics": "2 avx2"}, {"settings": {"length": 64, "seed": 2}}],
)
def test_accuracy_is_not_reused_when_anything_differs(ledger, changes):
    with begin(ledger) as run:
        run.add_outcomes([(run.arm("quest", QUEST), "a", Outcome({"kl": 0.0}), None)])
    with begin(ledger, **changes) as other:
        assert ledger.outcomes(other.key_of(QUEST)) == {}


def test_another_budget_is_another_flow(ledger):
    with begin(ledger) as run:
        assert run.key_of(QUEST) != run.key_of(QUEST.with_settings({"budget": "7"}))


def test_copies_are_marked_and_not_copied_again(ledger):
    with begin(ledger) as first:
        measured = first.arm("quest", QUEST)
        first.add_outcomes([(measured, "a", Outcome({"kl": 1.0}), None)])
    with begin(ledger) as second:
        copy = second.arm("quest", QUEST)
        second.add_outcomes([(copy, "a", Outcome({"kl": 1.0}), measured.id)])
    assert ledger.outcomes(copy.key)["a"][0] == measured.id
    assert [row["reused"] for row in table(ledger, "outcomes")] == [0, 1]


def blocks_of(ledger, run, ir_hash, load="8x64"):
    return ledger.speeds(
        ir_hash=ir_hash, model_sha256="f" * 64, load=load, environment=run.environment, numerics="1 avx2"
    )


def test_speed_is_answered_for_the_same_environment_only(ledger):
    with begin(ledger, "speed") as run:
        quest = run.arm("quest", QUEST)
        run.add_blocks([(quest, Block("8x64", 0, 1, 0.5, "full", {"bytes": 10}))])
        assert [row["seconds"] for row in blocks_of(ledger, run, QUEST.hash)] == [0.5]
        assert blocks_of(ledger, run, QUEST.hash, "8x128") == [] and blocks_of(ledger, run, None) == []
    for change in ({"commit": "def"}, {"device": "another machine"}, {"driver": "1.3"}, {"libraries": {"numpy": "3"}}):
        with begin(ledger, "speed", environment=ENVIRONMENT | change) as other:
            assert blocks_of(ledger, other, QUEST.hash) == []


def test_a_checkout_with_changes_has_no_speeds_to_give(ledger):
    with begin(ledger, "speed", environment=ENVIRONMENT | {"dirty": True}) as run:
        run.add_blocks([(run.arm("quest", QUEST), Block("8x64", 0, 1, 0.5))])
        assert blocks_of(ledger, run, QUEST.hash) == []


def test_a_retracted_run_answers_nothing(ledger):
    with begin(ledger) as run:
        run.add_outcomes([(run.arm("quest", QUEST), "a", Outcome({"kl": 0.0}), None)])
    ledger.retract(run.id[:12], "the prompt was cut short")
    assert ledger.outcomes(run.key_of(QUEST)) == {} and table(ledger, "outcomes") == []
    assert (ledger.runs()[0]["status"], ledger.runs()[0]["retracted"]) == ("retracted", "the prompt was cut short")
    with pytest.raises(
        UserError, match=r"\[ledger\] a reason for the retraction; none; say what is wrong with the run"
    ):
        ledger.retract(run.id, " ")


def test_nothing_is_changed_or_deleted(ledger):
    with begin(ledger) as run:
        run.add_outcomes([(run.arm("full"), "a", Outcome({"kl": 0.0}), None)])
    ledger.add_event("hypothesis", "round 1", {"text": "it helps"})
    with sqlite3.connect(ledger.path) as connection:
        for name in [
            row[0]
            for row in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]:
            column = connection.execute(f"SELECT name FROM pragma_table_info('{name}') LIMIT 1").fetchone()[0]
            assert name in schema.APPEND_ONLY_1 + schema.APPEND_ONLY_2 + schema.APPEND_ONLY_3
            if connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]:
                for statement in (f"DELETE FROM {name}", f"UPDATE {name} SET {column} = {column}"):
                    with pytest.raises(sqlite3.IntegrityError, match=f"the ledger is append-only: {name}"):
                        connection.execute(statement)


def test_an_item_is_recorded_once(ledger):
    with begin(ledger) as run:
        full = run.arm("full")
        with pytest.raises(sqlite3.IntegrityError):
            run.add_outcomes([(full, "a", Outcome({"kl": 0.0}), None), (full, "a", Outcome({"kl": 1.0}), None)])
    assert table(ledger, "outcomes") == []  # all or nothing


def test_how_a_run_ended_is_written(ledger):
    with begin(ledger):
        pass
    with pytest.raises(UserError), begin(ledger):
        raise UserError("eval", "a thing", "another")
    with pytest.raises(KeyboardInterrupt), begin(ledger):
        raise KeyboardInterrupt
    begin(ledger)
    assert [row["status"] for row in ledger.runs()] == ["running", "interrupted", "failed", "done"]
    assert ledger.runs()[2]["reason"] == "[eval] a thing; another"


def test_a_run_whose_process_is_another_by_now_was_killed(ledger, monkeypatch):
    """Numbers of processes come again, in a container soon."""
    long_ago = "2001-02-03T04:05:06.000+00:00"
    with monkeypatch.context() as then:
        then.setattr("vortex_attention.ledger.run.now", lambda: long_ago)
        begin(ledger)  # by this process, which began later
    begin(ledger)
    assert [row["status"] for row in ledger.runs()] == ["running", "killed"]


def test_a_transaction_that_cannot_end_leaves_the_ledger_open_for_others(ledger):
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        with ledger.write() as connection:
            connection.execute("PRAGMA defer_foreign_keys = ON")  # so that it is found out at the end
            connection.execute("INSERT INTO retraction VALUES (?, ?, ?)", ("0" * 32, "now", "of no run"))
    assert ledger.add_event("note", "after it", {}) == 1
    assert ledger.rows("SELECT * FROM retraction") == []


def test_events_keep_their_order(ledger):
    first = ledger.add_event("hypothesis", "round 1", {"n": 1}, actor="a")
    ledger.add_event("verdict", "round 1", {"n": 2})
    assert [event["body"] for event in ledger.events(subject="round 1")] == [{"n": 1}, {"n": 2}]
    assert [event["kind"] for event in ledger.events(after=first)] == ["verdict"]
    assert ledger.events(kind="hypothesis")[0]["actor"] == "a"


def _append(path, name, count):
    with Ledger.open(path) as ledger, begin(ledger) as run:
        arm = run.arm(name)
        for item in range(count):
            run.add_outcomes([(arm, str(item), Outcome({"kl": float(item)}), None)])


def test_many_processes_open_and_write_at_once(tmp_path):
    path = tmp_path / "new" / "ledger.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(path, f"arm {number}", 10)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    with Ledger.open(path, create=False) as ledger:
        assert len(table(ledger, "outcomes")) == 40 and ledger.check() == []
        assert [row["status"] for row in ledger.runs()] == ["done"] * 4


def test_a_ledger_survives_a_fork(ledger):
    ledger.add_event("a", "b", {})
    child = os.fork()
    if child == 0:
        try:
            ledger.add_event("a", "b", {})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    ledger.add_event("a", "b", {})
    assert len(ledger.events()) == 3


KILLED = """
import sys
from vortex_attention.ledger import Ledger, Outcome
ledger = Ledger.open(sys.argv[1])
run = ledger.run("accuracy", suite="s", model="m", model_sha256="0", numerics="n", settings={}, environment={})
arm = run.arm("full")
for item in range(10**9):
    run.add_outcomes([(arm, f"{item} {part}", Outcome({"kl": 0.5}), None) for part in range(8)])
    print(item, flush=True)
"""


def test_killed_at_any_moment_a_batch_is_whole_or_absent(tmp_path):
    path = tmp_path / "ledger.sqlite"
    for number in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, path],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": "python"},
        )
        for _ in range(2 + number):
            process.stdout.readline()
        time.sleep(0.003 * number)
        process.send_signal(signal.SIGKILL)
        said = [line for line in process.stdout.read().split("\n") if line]
        process.wait()
        with Ledger.open(path) as ledger:
            latest = ledger.runs()[0]
            assert latest["status"] == "killed"
            items = [row["item"] for row in table(ledger, "outcomes") if row["run"] == latest["id"]]
            batches = {item.split()[0] for item in items}
            assert len(items) == 8 * len(batches) and len(batches) >= 2 + number + len(said)
            assert ledger.check() == []


@pytest.fixture
def next_version(monkeypatch):
    more = "ALTER TABLE run ADD COLUMN note TEXT;\nCREATE TABLE extra (x INTEGER);\n" + schema.append_only("extra")
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, more])
    return more


def test_a_migration_keeps_everything_and_a_backup(tmp_path, request):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger, begin(ledger) as run:
        run.add_outcomes([(run.arm("full"), "a", Outcome({"kl": 0.0}), None)])
    request.getfixturevalue("next_version")
    with pytest.raises(
        UserError,
        match=r"\[ledger\] a ledger of version \d+; .* is of version \d+; a command that measures brings it up to date",
    ):
        Ledger.open(path, create=False)
    with Ledger.open(path) as ledger:
        assert ledger.rows("SELECT note FROM run") == [{"note": None}]
        assert len(ledger.rows("SELECT * FROM outcome")) == 1
    with sqlite3.connect(tmp_path / f"ledger.sqlite.version-{len(schema.MIGRATIONS) - 1}.backup") as backup:
        assert backup.execute("PRAGMA user_version").fetchone()[0] == len(schema.MIGRATIONS) - 1
        assert backup.execute("SELECT count(*) FROM outcome").fetchone()[0] == 1
    assert sorted(file.name for file in tmp_path.iterdir() if "part" in file.name) == []


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path).close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, "CREATE TABLE extra (x);\nCREATE TABLE extra (x);\n"])
        with pytest.raises(MachineError, match="already exists"):
            Ledger.open(path)
    with Ledger.open(path) as ledger:
        assert ledger.rows("SELECT name FROM sqlite_master WHERE name = 'extra'") == []


def test_an_older_program_refuses_a_newer_ledger(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, "CREATE TABLE extra (x);\n"])
        Ledger.open(path).close()
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"\[ledger\] a ledger of version \d+ or earlier, which this program knows; .* is of version \d+; "
                                        r"use the Vortex that wrote it, or name another file with --ledger"):  # fmt: skip
        Ledger.open(path)
    assert path.read_bytes() == before


def test_files_that_are_no_ledger_are_left_alone(tmp_path):
    text, other = tmp_path / "text", tmp_path / "other.sqlite"
    text.write_text("not a database, but long enough to be read as the header of one: " + "x" * 200)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(
        UserError, match=r"\[ledger\] a ledger of Vortex; .*text is not one; name another file with --ledger"
    ):
        Ledger.open(text)
    with pytest.raises(
        UserError,
        match=r"\[ledger\] a ledger of Vortex; .*other.sqlite is another program's database; name another file",
    ):
        Ledger.open(other)
    assert sqlite3.connect(other).execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 1
    with pytest.raises(
        MachineError,
        match=r"\[ledger\] a file that can be written at .*; unable to open database file; free space or rights",
    ):
        Ledger.open(tmp_path)
    with pytest.raises(
        MachineError, match=r"\[ledger\] a folder that can be written for .*text/x; .*; name another file with --ledger"
    ):
        Ledger.open(text / "x")
    with pytest.raises(UserError, match=r"\[ledger\] a ledger that exists; no file .*missing; measure something first"):
        Ledger.open(tmp_path / "missing", create=False)


def test_a_damaged_ledger_is_said_to_be_damaged(tmp_path, capsys):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger, begin(ledger) as run:
        arm = run.arm("full")
        run.add_outcomes([(arm, str(item), Outcome({"text": "x" * 500}), None) for item in range(200)])
    raw = bytearray(path.read_bytes())
    raw[4096:] = os.urandom(len(raw) - 4096)
    path.write_bytes(raw)
    assert main(["ledger", "check", "--ledger", str(path)]) == 3
    assert "[ledger] a whole file; " in capsys.readouterr().err


def test_the_page_on_the_ledger_is_of_this_version(ledger):
    page = (pathlib.Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    tables = ledger.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    assert f"## Tables (version {len(schema.MIGRATIONS)})\n" in page
    assert [row["name"] for row in tables if f"| `{row['name']}` |" not in page] == []


def test_ids_may_be_cut_short(ledger):
    run = begin(ledger)
    begin(ledger)
    assert ledger.run_id(run.id[:16].upper()) == run.id
    for start in ("", "%", "zz", "f" * 32):
        with pytest.raises(UserError, match=r"\[ledger\] the beginning of one run's id; .*; see `vortex ledger runs`"):
            ledger.run_id(start)


def test_json_has_no_infinities_and_one_form():
    import numpy as np

    assert canonical_json({"b": float("inf"), "a": np.float32(0.5)}) == '{"a":0.5,"b":null}'
    assert accuracy_key(ir_hash=None, ir_version=None, config=None, model_sha256="", suite="", settings={"a": 1, "b": 2}, numerics="") == accuracy_key(
        ir_hash=None, ir_version=None, config=None, model_sha256="", suite="", settings={"b": 2, "a": 1}, numerics="")  # fmt: skip


@pytest.fixture
def filled(ledger):
    with begin(ledger) as run:
        quest = run.arm("quest", QUEST)
        run.add_outcomes([(quest, "a, b", Outcome({"exact": True, "kl": 0.25, "curve": [1, 2]}, {"attended_tokens": 64.0}), None),
                          (quest, "c", Outcome({"exact": False, "kl": 1}), None)])  # fmt: skip
        run.add_blocks([(quest, Block("8x64", 0, 1, 0.5, "full", {"parts": {"score": 0.1}}))])
    return ledger


def test_export_as_json_and_csv(filled, tmp_path):
    assert export(filled, "outcomes", "json", tmp_path / "o.json") == 2
    rows = json.loads((tmp_path / "o.json").read_text())
    assert rows[0]["scores"] == {"exact": True, "kl": 0.25, "curve": [1, 2]} and rows[0]["commit"] == "abc"
    export(filled, "outcomes", "csv", tmp_path / "o.csv")
    with open(tmp_path / "o.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["item"], row["scores.kl"], row["scores.curve"], row["settings.length"]) for row in rows] == [
        ("a, b", "0.25", "[1, 2]", "64"),
        ("c", "1", "", "64"),
    ]
    export(filled, "blocks", "csv", tmp_path / "b.csv")
    assert "observed.parts.score" in (tmp_path / "b.csv").read_text().splitlines()[0]
    assert [file.name for file in tmp_path.iterdir() if "part" in file.name] == []


def test_export_as_parquet(filled, tmp_path):
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is the extra that writes Parquet; without it the next test stands"
    )
    for kind in ("outcomes", "blocks", "runs", "flows", "events"):
        export(filled, kind, "parquet", tmp_path / "o.parquet")
        assert parquet.read_table(tmp_path / "o.parquet").num_rows == len(table(filled, kind))
    export(filled, "outcomes", "parquet", tmp_path / "o.parquet")
    assert parquet.read_table(tmp_path / "o.parquet").column("scores.kl").to_pylist() == [0.25, 1.0]


def test_parquet_without_pyarrow_says_what_to_install(filled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UserError,
        match=r"\[ledger export\] the package pyarrow, for Parquet; it is not installed; pip install 'vortex-attention\[parquet\]'",
    ):
        export(filled, "outcomes", "parquet", tmp_path / "o.parquet")


def test_wrong_kinds_formats_and_places_of_an_export(filled, tmp_path):
    with pytest.raises(
        UserError, match=r'one of outcomes, blocks, runs, flows, events; "outcome"; did you mean "outcomes"\?'
    ):
        export(filled, "outcome", "csv", tmp_path / "x")
    with pytest.raises(UserError, match=r'a format among json, csv, parquet; "xlsx"'):
        export(filled, "outcomes", "xlsx", tmp_path / "x")
    with pytest.raises(MachineError, match=r"\[ledger export\] a file that can be written at .*; name another file"):
        export(filled, "outcomes", "csv", tmp_path / "no" / "x.csv")


def test_the_commands_show_what_is_there(filled, tmp_path, capsys):
    run = filled.runs()[0]["id"]
    where = ["--ledger", str(filled.path)]
    assert main(["ledger", "runs", *where]) == 0
    assert run[:10] in capsys.readouterr().out
    assert main(["ledger", "show", run[:8], "--json", *where]) == 0
    shown = json.loads(capsys.readouterr().out)["arms"][0]
    assert shown["means"] == {"exact": 0.5, "kl": 0.625, "attended_tokens": 64.0, "seconds 8x64": 0.5}
    assert main(["ledger", "show", run[:8], *where]) == 0
    assert main(["ledger", "export", str(tmp_path / "x.csv"), *where]) == 0
    assert "2 rows: " in capsys.readouterr().out
    assert main(["ledger", "check", *where]) == 0
    assert "no error found" in capsys.readouterr().out
    assert main(["ledger", "retract", run[:8], "--reason", "wrong", *where]) == 0
    assert main(["ledger", "runs", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])[0]["status"] == "retracted"
