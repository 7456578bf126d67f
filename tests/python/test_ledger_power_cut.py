"""Ledgers of every released version open and migrate; files that a power cut or a bad disk left half written are recovered, up to the last
transaction that is whole, or refused in words. Nothing is repaired silently."""

import os
import pathlib
import random
import shutil
import signal
import sqlite3
import time

import pytest

from vortex_attention import _core, flows
from vortex_attention.discover.campaign import Campaign
from vortex_attention.discover.laboratory import Workload
from vortex_attention.discover.null import NullLaboratory
from vortex_attention.discover.study import Study
from vortex_attention.errors import MachineError, UserError
from vortex_attention.ledger import Ledger, Outcome, schema

RELEASED = sorted((pathlib.Path(__file__).parent / "reference" / "ledgers").glob("version_*.sql"))
BATCH = 5  # outcomes of a transaction
ENVIRONMENT = {"device": "here", "commit": "0", "dirty": False}


def number_of(dump: pathlib.Path) -> int:
    return int(dump.stem.removeprefix("version_"))


def restore(dump: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(dump.read_text())
    connection.close()
    return path


def test_every_version_of_the_schema_has_a_ledger_of_its_own():
    """A version that is added brings a dump of a ledger that it wrote: restore, `iterdump`, and the two PRAGMAs at the top."""
    assert [number_of(dump) for dump in RELEASED] == list(range(1, len(schema.MIGRATIONS) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("dump", RELEASED, ids=lambda dump: dump.stem)
def test_a_released_ledger_opens_migrates_and_goes_on(dump, tmp_path):
    path = restore(dump, tmp_path / "ledger.sqlite")
    before = {name: rows for name, rows in contents(path).items() if not name.startswith("sqlite_")}
    with Ledger.open(path) as ledger:
        assert ledger.check() == []
        for name, rows in contents(path).items():
            assert (
                name not in before or [row[: len(old)] for row, old in zip(rows, before[name])] == before[name]
            )  # columns may have come
        runs = {run["settings"].get("seed"): run["status"] for run in ledger.runs() if run["suite"] == "needle"}
        assert runs == {1: "done", 2: "retracted"}
        (arm,) = ledger.rows(
            "SELECT key FROM arm WHERE role = 'flow' AND run = (SELECT id FROM run WHERE suite = 'needle' ORDER BY rowid LIMIT 1)"
        )
        assert ledger.outcomes(arm["key"])["needle-0"][1] == Outcome(
            {"exact": False, "log_probability": -0.5, "kl": 0.25}, {"attended_tokens": 48.0}
        )
        assert ledger.events(kind="note")[0]["body"] == {"text": "hello"}
        for row in ledger.rows("SELECT ir, hash, ir_version FROM flow"):
            program = _core.parse_flow(row["ir"])
            program.verify()
            assert program.hash == row["hash"]
        with pytest.raises(sqlite3.IntegrityError, match="append-only"), ledger.write() as connection:
            connection.execute("UPDATE run SET suite = 'other'")
        if number_of(dump) >= 2:
            study = Study.open(ledger, "first")
            assert [proposal.hypothesis for proposal in study.proposals()] == ["it finds the page", "once more", "hope"]
            assert len(study.measured()) == 1 and {id: list(gates) for id, gates in study.verdicts().items()}[2] == [
                "check"
            ]
        study = Study.open(ledger, "another", {"seed": 1})
        Campaign(study, NullLaboratory(Workload(screen_items=2, gate_items=2)), environment=ENVIRONMENT).run(0, 1, 1)
        assert study.measured()
    backups = [file.name for file in tmp_path.glob("*.backup")]
    assert backups == (
        [f"ledger.sqlite.version-{number_of(dump)}.backup"] if number_of(dump) < len(schema.MIGRATIONS) else []
    )


def test_a_ledger_that_was_saved_by_sqlite3_migrates(tmp_path):
    """It is in no WAL mode: the copy before a migration must not wait for the migration's own lock."""
    with sqlite3.connect(tmp_path / "saved.sqlite") as connection:
        connection.executescript(RELEASED[0].read_text())
    connection.close()
    with Ledger.open(tmp_path / "saved.sqlite") as ledger:
        assert ledger.check() == [] and len(ledger.runs()) == 4
    assert (tmp_path / "saved.sqlite.version-1.backup").exists()


def contents(path: pathlib.Path) -> dict[str, list[tuple]]:
    connection = sqlite3.connect(path)
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=str) for name in names}
    finally:
        connection.close()


@pytest.mark.slow
def test_killed_while_it_migrates_a_ledger_is_of_the_one_version_or_the_other(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for attempt in range(8):
        path = restore(RELEASED[0], tmp_path / f"{attempt}.sqlite")
        child = os.fork()
        if child == 0:
            try:
                Ledger.open(path).close()
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with sqlite3.connect(path) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        connection.close()
        assert version in (1, len(schema.MIGRATIONS)) and ("verdict" in tables) == (version > 1)
        with Ledger.open(path) as ledger:
            assert ledger.check() == [] and len(ledger.runs()) == 4


# Half-written files


@pytest.fixture(scope="module")
def torn(tmp_path_factory):
    """A ledger and its log as a power cut leaves them: some transactions in the file, the later ones in the log alone."""
    folder = tmp_path_factory.mktemp("torn")
    with Ledger.open(folder / "whole.sqlite") as ledger:
        begin(ledger, 6)
        ledger.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        begin(ledger, 12)
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"whole.sqlite{suffix}", folder / f"cut.sqlite{suffix}")
    return folder / "cut.sqlite"


def begin(ledger, batches: int) -> None:
    with ledger.run(
        "accuracy", suite="s", model="m", model_sha256="0", numerics="n", settings={}, environment=ENVIRONMENT
    ) as run:
        arm = run.arm("full")
        ledger.add_event("note", "long", {"text": "y" * 20_000})
        for batch in range(batches):
            run.add_outcomes(
                [(arm, f"{batch} {part}", Outcome({"kl": 0.5, "text": "x" * 60}), None) for part in range(BATCH)]
            )


def copy(torn: pathlib.Path, folder: pathlib.Path, *, log: bool = True) -> pathlib.Path:
    path = folder / "ledger.sqlite"
    for file in folder.glob("ledger.sqlite*"):
        file.unlink()
    for suffix in ("", "-wal") if log else ("",):
        shutil.copy(f"{torn}{suffix}", f"{path}{suffix}")
    return path


def batches_of(path: pathlib.Path) -> int:
    """Whole batches; that there is no other is asserted, and that the ledger goes on."""
    with Ledger.open(path) as ledger:
        assert ledger.check() == []
        items = [
            row["item"] for row in ledger.rows("SELECT o.item FROM outcome o ORDER BY o.arm, length(o.item), o.item")
        ]
        assert len(items) % BATCH == 0
        ledger.add_event("note", "after", {})
        assert ledger.events(subject="after")
    return len(items) // BATCH


def test_a_log_that_ends_anywhere(torn, tmp_path):
    size = os.path.getsize(f"{torn}-wal")
    assert batches_of(copy(torn, tmp_path)) == 18
    found = []
    for end in [0, 7, 32, 33, *range(4096, size, 7919), size - 1]:
        path = copy(torn, tmp_path)
        os.truncate(f"{path}-wal", end)
        found.append(batches_of(path))
    assert found == sorted(found) and found[0] == 6 and found[-1] in (17, 18)
    assert len(set(found)) > 5


def test_a_log_with_rubbish_in_it(torn, tmp_path):
    """What a disk left of a block that it was writing: the transactions before it are there, none after it."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(12):
        path = copy(torn, tmp_path)
        raw = bytearray(pathlib.Path(f"{path}-wal").read_bytes())
        at = rng.randrange(0, len(raw), 512)
        raw[at : at + 512] = rng.choice([bytes(512), rng.randbytes(512)])
        pathlib.Path(f"{path}-wal").write_bytes(raw)
        assert 6 <= batches_of(path) <= 18


def test_a_log_that_is_gone(torn, tmp_path):
    assert batches_of(copy(torn, tmp_path, log=False)) == 6


def test_pages_that_were_being_copied_from_the_log(torn, tmp_path):
    """A cut in the middle of a checkpoint: pages of the file are half old, half new, and the log still holds them all."""
    path = copy(torn, tmp_path)
    raw = pathlib.Path(f"{path}-wal").read_bytes()
    frame = 24 + 4096
    pages = {int.from_bytes(raw[32 + i * frame : 36 + i * frame], "big") for i in range((len(raw) - 32) // frame)}
    data = bytearray(path.read_bytes())
    for page in pages:
        begins = (page - 1) * 4096
        if page > 1 and begins + 4096 <= len(data):
            data[begins + 512 : begins + 4096] = bytes(3584)
    path.write_bytes(data)
    assert len(pages) > 5 and batches_of(path) == 18


@pytest.fixture(scope="module")
def whole(torn, tmp_path_factory):
    """A ledger with all in one file, and what is in it."""
    path = copy(torn, tmp_path_factory.mktemp("whole"))
    with Ledger.open(path) as ledger:
        program = flows.ready("quest")
        long = program.text().replace("An upper bound", "z" * 9000)
        with ledger.write() as connection:
            connection.execute(
                "INSERT INTO flow VALUES (?, 1, 'Quest', ?, '', ?)", (program.hash, _core.parse_flow(long).doc, long)
            )
        ledger.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    return path, contents(path)


def read_or_words(path: pathlib.Path) -> tuple[str, dict | None]:
    """What is said of the file, and its contents if nothing is. Any other error is a failure of the test."""
    try:
        with Ledger.open(path) as ledger:
            if wrong := ledger.check():
                return "; ".join(wrong), None
            names = [row["name"] for row in ledger.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return "", {
                name: sorted((tuple(row.values()) for row in ledger.rows(f"SELECT * FROM {name}")), key=str)
                for name in names
            }
    except (MachineError, UserError) as error:
        assert str(error).startswith("[ledger] ")
        return str(error), None


def test_a_page_of_zeros(whole, tmp_path):
    """Whichever page it is: it is said, or nothing is missing."""
    path, rows = whole
    said = 0
    for page in range(os.path.getsize(path) // 4096):
        damaged = copy(path, tmp_path, log=False)
        with open(damaged, "r+b") as file:
            file.seek(page * 4096)
            file.write(bytes(4096))
        words, found = read_or_words(damaged)
        said += bool(words)
        assert words or found == rows, page
    assert said > 10


def test_a_file_that_ends_early(whole, tmp_path):
    path, rows = whole
    size = os.path.getsize(path)
    for end in (1, 15, 16, 50, 99, 100, 101, 511, 512, 4095, 4096, 4097, size // 2, size - 4096, size - 1):
        damaged = copy(path, tmp_path, log=False)
        os.truncate(damaged, end)
        words, found = read_or_words(damaged)
        assert words or found == rows, end
        assert not words or os.path.getsize(damaged) == end, end  # what is left of it stays


def test_a_short_file_that_is_none_is_left_alone(tmp_path):
    path = tmp_path / "notes"
    path.write_text("my notes")
    with pytest.raises(
        UserError, match=r"\[ledger\] a ledger of Vortex; .*notes is not one; name another file with --ledger"
    ):
        Ledger.open(path)
    assert path.read_text() == "my notes"


def test_an_empty_file_beside_a_log_is_refused_and_kept(torn, tmp_path):
    """SQLite would begin a database and throw the log away."""
    path = copy(torn, tmp_path)
    os.truncate(path, 0)
    with pytest.raises(
        MachineError,
        match=r"\[ledger\] a whole file; .*ledger.sqlite is empty and its log is not; put back a copy of it",
    ):
        Ledger.open(path)
    assert os.path.getsize(f"{path}-wal") == os.path.getsize(f"{torn}-wal")
