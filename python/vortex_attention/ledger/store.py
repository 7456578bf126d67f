"""The file: opening, migrating with a backup, transactions, look-ups. SQLite in WAL mode, so many processes read and write, and
a kill at any moment loses at most the transaction that was not committed. Refuses files that are no ledger, and ledgers of a
later version. WAL needs a local file system."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from .. import _core
from ..errors import MachineError, UserError, VortexError
from . import schema
from .keys import canonical_json
from .run import Outcome, Run, now

BUSY_SECONDS = 60
MAGIC, HEADER = b"SQLite format 3\0", 512  # how a file of SQLite begins, and the smallest it can be


def default_path() -> Path:
    """VORTEX_LEDGER."""
    return Path(os.path.expanduser(_core.env("VORTEX_LEDGER")))


class Ledger:
    """An open ledger; usable from several threads, reopened by itself after a fork."""

    def __init__(self, path: Path, writable: bool):
        self.path, self.writable = path, writable
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    @classmethod
    def open(cls, path: str | os.PathLike | None = None, *, create: bool = True) -> "Ledger":
        """The ledger at `path`, made when it is not there and brought to this program's version. create=False: reads only,
        a missing file is the user's error."""
        ledger = cls(Path(path) if path is not None else default_path(), create)
        with ledger._words():
            if not create and not ledger.path.exists():
                raise UserError(
                    "ledger",
                    "a ledger that exists",
                    f"no file {ledger.path}",
                    "measure something first (vortex eval, vortex bench), or name it with --ledger",
                )
            ledger._connect()
        return ledger

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def run(
        self,
        kind: str,
        *,
        suite: str,
        model: str,
        model_sha256: str,
        numerics: str,
        settings: dict,
        environment: dict | None = None,
    ) -> Run:
        """A run that has begun. settings: all that fixes its items, JSON-ready. environment: facts of this process and
        machine, measure.provenance's when None."""
        return Run.begin(
            self,
            kind,
            suite=suite,
            model=model,
            model_sha256=model_sha256,
            numerics=numerics,
            settings=settings,
            environment=environment,
        )

    def add_event(self, kind: str, subject: str, body: dict, actor: str = "user") -> int:
        """Appends an event of discovery; returns its number, which grows."""
        with self.write() as connection:
            return connection.execute(
                "INSERT INTO event (at, kind, subject, actor, body) VALUES (?, ?, ?, ?, ?)",
                (now(), kind, subject, actor, canonical_json(body)),
            ).lastrowid

    def retract(self, run: str, reason: str) -> None:
        """Takes a run out of every look-up. Its rows stay."""
        if not reason.strip():
            raise UserError("ledger", "a reason for the retraction", "none", "say what is wrong with the run")
        run = self.run_id(run)
        with self.write() as connection:
            connection.execute("INSERT OR IGNORE INTO retraction VALUES (?, ?, ?)", (run, now(), reason))

    # Reading

    def rows(self, query: str, parameters: tuple = ()) -> list[dict]:
        """What a SELECT gives, a dictionary a row; columns that hold JSON come as text."""
        with self._words(), self._lock:
            return [dict(row) for row in self._connect().execute(query, parameters)]

    def outcomes(self, key: str) -> dict[str, tuple[int, Outcome]]:
        """By item, what was measured under an equal accuracy_key in any run that is not retracted: (arm, outcome), the
        earliest. Outcomes that are themselves copies are left out."""
        found: dict[str, tuple[int, Outcome]] = {}
        for row in self.rows(
            "SELECT o.* FROM outcome o JOIN arm a ON a.id = o.arm WHERE a.key = ? AND o.reused_from IS NULL "
            "AND a.run NOT IN (SELECT run FROM retraction) ORDER BY o.arm",
            (key,),
        ):
            outcome = Outcome(json.loads(row["scores"]), json.loads(row["observed"]))
            found.setdefault(row["item"], (row["arm"], outcome))
        return found

    def speeds(
        self, *, ir_hash: str | None, model_sha256: str, load: str, environment: str, numerics: str
    ) -> list[dict]:
        """Blocks of a flow (None: full attention) under one load, measured in the same environment only: commit, device,
        driver and libraries are in its digest. A checkout with changes has no speeds to give."""
        return self.rows(
            "SELECT b.*, a.run, a.name FROM block b JOIN arm a ON a.id = b.arm JOIN run r ON r.id = a.run "
            "JOIN environment e ON e.digest = r.environment WHERE a.flow_hash IS ? AND r.model_sha256 = ? AND b.load = ? "
            "AND e.digest = ? AND e.dirty = 0 AND r.numerics = ? AND r.id NOT IN (SELECT run FROM retraction) "
            "ORDER BY r.began, b.round, b.position",
            (ir_hash, model_sha256, load, environment, numerics),
        )

    def events(self, *, kind: str | None = None, subject: str | None = None, after: int = 0) -> list[dict]:
        """Events in order, their bodies parsed."""
        found = self.rows(
            "SELECT * FROM event WHERE id > ? AND (? IS NULL OR kind = ?) AND (? IS NULL OR subject = ?) ORDER BY id",
            (after, kind, kind, subject, subject),
        )
        return [row | {"body": json.loads(row["body"])} for row in found]

    def runs(self, limit: int = -1) -> list[dict]:
        """The latest runs first, with their status: done, failed, interrupted, retracted, running, or killed (no end was
        written and its process is gone)."""
        found = self.rows(
            "SELECT r.*, e.commit_id, e.dirty, e.device, e.driver, n.status, n.ended, n.reason, x.reason AS retracted, "
            "(SELECT count(*) FROM arm WHERE run = r.id) AS arms, "
            "(SELECT count(*) FROM outcome o JOIN arm a ON a.id = o.arm WHERE a.run = r.id) AS outcomes, "
            "(SELECT count(*) FROM block b JOIN arm a ON a.id = b.arm WHERE a.run = r.id) AS blocks "
            "FROM run r JOIN environment e ON e.digest = r.environment LEFT JOIN run_end n ON n.run = r.id "
            "LEFT JOIN retraction x ON x.run = r.id ORDER BY r.began DESC, r.rowid DESC LIMIT ?",
            (limit,),
        )
        for row in found:
            row["settings"] = json.loads(row["settings"])
            if row["retracted"] is not None:
                row["status"] = "retracted"
            elif row["status"] is None:
                row["status"] = "running" if _is_running(row["process"], row["began"]) else "killed"
        return found

    def run_id(self, start: str) -> str:
        """The whole id of the run whose id begins so."""
        safe = start.lower() if start and set(start.lower()) <= set("0123456789abcdef") else None
        found = (
            [row["id"] for row in self.rows("SELECT id FROM run WHERE id LIKE ? LIMIT 3", (f"{safe}%",))]
            if safe
            else []
        )
        if len(found) == 1:
            return found[0]
        came = f"{start!r} begins {len(found)} or more of them" if found else f"{start!r} begins none of them"
        raise UserError("ledger", "the beginning of one run's id", came, "see `vortex ledger runs`")

    def check(self) -> list[str]:
        """What SQLite's integrity check, the foreign keys and the contents that can be told whole find wrong; empty when all is well."""
        wrong = [
            row["integrity_check"] for row in self.rows("PRAGMA integrity_check") if row["integrity_check"] != "ok"
        ]
        wrong += [
            f"{row['table']} row {row['rowid']} points at no {row['parent']}"
            for row in self.rows("PRAGMA foreign_key_check")
        ]
        return wrong + (self._damaged_contents() if not wrong else [])

    def _damaged_contents(self) -> list[str]:
        """Long texts lie in pages of their own, which SQLite does not look into: JSON that is none, flows that are not what they are called."""
        there = {row["name"] for row in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
        wrong = []
        for table, columns in schema.JSON.items():
            for column in columns if table in there else ():
                count = self.rows(
                    f"SELECT count(*) AS n FROM {table} WHERE NOT json_valid({column}) OR instr({column}, char(0))"
                )[0]["n"]
                wrong += [f"{count} rows of {table} have a damaged {column}"] if count else []
        if "proposal" in there:
            count = self.rows(
                "SELECT count(*) AS n FROM proposal WHERE instr(source, char(0)) OR instr(hypothesis, char(0))"
            )[0]["n"]
            wrong += [f"{count} proposals have a damaged text"] if count else []
        for row in self.rows("SELECT hash, ir, doc FROM flow"):
            try:
                program = _core.parse_flow(row["ir"])
                whole = "\0" not in row["ir"] and program.doc == row["doc"]
            except VortexError as error:
                whole = "this build reads version" in str(error)  # of another version: not to be told
            if not whole:
                wrong.append(f"flow {row['hash']} is damaged")
        return wrong

    # The connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is in the file, or nothing."""
        with self._words(), self._lock:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None and self._process == os.getpid():
            return self._connection
        if self.writable:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._look_at_file()
        name = self.path.absolute().as_uri() + ("" if self.writable else "?mode=ro")
        connection = sqlite3.connect(
            name, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA recursive_triggers = ON")  # so that INSERT OR REPLACE meets them too
            self._bring_up(connection)
            if self.writable:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        self._connection, self._process = connection, os.getpid()
        return connection

    def _look_at_file(self) -> None:
        """SQLite takes a file of less than its header for an empty database, writes over it, and drops a log beside it; of a last
        page that is cut it reads zeros."""
        if not self.path.is_file():
            return
        with open(self.path, "rb") as file:
            header = file.read(HEADER)
        if header and not header.startswith(MAGIC[: len(header)]):
            raise UserError(
                "ledger", "a ledger of Vortex", f"{self.path} is not one", "name another file with --ledger"
            )
        log = self.path.with_name(self.path.name + "-wal")
        logged = log.exists() and log.stat().st_size > 0
        size, page = self.path.stat().st_size, max(HEADER, int.from_bytes(header[16:18], "big"))
        came = ""
        if header and (len(header) < HEADER or (size % page and not logged)):
            came = f"{self.path} ends after {size} bytes, within a page"
        elif not header and logged:
            came = f"{self.path} is empty and its log is not"
        if came:
            raise MachineError(
                "ledger",
                "a whole file",
                came,
                "put back a copy of it, or name another file with --ledger; both are as they were",
            )

    def _bring_up(self, connection: sqlite3.Connection) -> None:
        """Checks what the file is and, when it may, brings it to this program's version."""
        if self._version(connection) == len(schema.MIGRATIONS):
            return
        if not self.writable:
            raise UserError(
                "ledger",
                f"a ledger of version {len(schema.MIGRATIONS)}",
                f"{self.path} is of version {self._version(connection)}",
                "a command that measures brings it up to date",
            )
        connection.execute("PRAGMA journal_mode = WAL")  # else the copy would wait for our own lock
        connection.execute("BEGIN EXCLUSIVE")  # one process migrates, the others wait here
        try:
            version = self._version(connection)
            if 0 < version < len(schema.MIGRATIONS):
                self._back_up(version)
            for number in range(version, len(schema.MIGRATIONS)):
                for statement in _statements(schema.MIGRATIONS[number]):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _version(self, connection: sqlite3.Connection) -> int:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != schema.APPLICATION_ID:
            raise UserError(
                "ledger",
                "a ledger of Vortex",
                f"{self.path} is another program's database",
                "name another file with --ledger",
            )
        if version > len(schema.MIGRATIONS):
            raise UserError(
                "ledger",
                f"a ledger of version {len(schema.MIGRATIONS)} or earlier, which this program knows",
                f"{self.path} is of version {version}",
                "use the Vortex that wrote it, or name another file with --ledger",
            )
        return version

    def _back_up(self, version: int) -> None:
        """A whole copy beside the file, under its name only when it is complete. The caller holds the write lock; readers
        of a WAL file are not shut out by it."""
        target = self.path.with_name(f"{self.path.name}.version-{version}.backup")
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        with contextlib.closing(sqlite3.connect(self.path.absolute().as_uri() + "?mode=ro", uri=True)) as source:
            with contextlib.closing(sqlite3.connect(part)) as copy:
                source.backup(copy)
        os.replace(part, target)

    @contextlib.contextmanager
    def _words(self) -> Iterator[None]:
        """SQLite's failures in ours."""
        try:
            yield
        except VortexError:
            raise
        except sqlite3.DatabaseError as error:
            said = str(error)
            if "not a database" in said:
                raise UserError(
                    "ledger", "a ledger of Vortex", f"{self.path} is not one", "name another file with --ledger"
                ) from error
            if "malformed" in said:
                raise MachineError(
                    "ledger",
                    "a whole file",
                    f"{self.path} is damaged ({said})",
                    "keep it, start another with --ledger, and see docs/ledger.md on what can be saved",
                ) from error
            if isinstance(error, sqlite3.OperationalError):
                raise MachineError(
                    "ledger",
                    f"a file that can be written at {self.path}",
                    said,
                    "free space or rights there, or name another file with --ledger",
                ) from error
            raise
        except OSError as error:
            raise MachineError(
                "ledger",
                f"a folder that can be written for {self.path}",
                error.strerror or str(error),
                "name another file with --ledger",
            ) from error


def _is_running(process: int, began: str) -> bool:
    """Whether the process that began a run then is there; a later one of the same number is not it."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/stat", encoding="utf-8") as file:
            booted = next(int(line.split()[1]) for line in file if line.startswith("btime"))
    except (OSError, ValueError, IndexError, StopIteration):
        return os.path.exists(f"/proc/{process}")
    started = booted + ticks / os.sysconf("SC_CLK_TCK")
    return started < datetime.datetime.fromisoformat(began).timestamp() + 2.0  # the time of booting is told in seconds


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; sqlite3's own executescript would end our transaction."""
    part = ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            yield part
            part = ""
    if part.strip():
        raise ValueError(f"a migration ends within a statement: {part!r}")
