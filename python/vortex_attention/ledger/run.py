"""A run while it is being measured: its arms, their outcomes by item, their timed blocks. Each call is one transaction, so what
a killed run has handed in is there for the next one."""

from __future__ import annotations

import datetime
import json
import os
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..measure.provenance import provenance
from .keys import accuracy_key, canonical_json, digest

if TYPE_CHECKING:
    from .store import Ledger

FULL = "full"


@dataclass(frozen=True)
class Outcome:
    """One item of one arm. scores: by metric. observed: what the engine counted and used."""

    scores: dict[str, Any]
    observed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """One timed block: seconds a step. position: 0 to 3 in an A B B A of `round`; baseline: the arm it is paired with."""

    load: str
    round: int
    position: int
    seconds: float
    baseline: str = ""
    observed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """An arm of a run. key: see accuracy_key."""

    id: int
    name: str
    key: str


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def ir_version_of(program) -> int:
    return int(json.loads(program.json())["vortex_ir"])


class Run:
    """Use as a context manager: leaving it writes how the run ended."""

    def __init__(
        self, ledger: "Ledger", id: str, suite: str, model_sha256: str, numerics: str, settings: dict, environment: str
    ):
        self.ledger, self.id = ledger, id
        self.suite, self.model_sha256, self.numerics, self.settings = suite, model_sha256, numerics, settings
        self.environment = environment
        self.summary: dict = {}
        self._ended = False

    @classmethod
    def begin(cls, ledger, kind, *, suite, model, model_sha256, numerics, settings, environment) -> "Run":
        facts = dict(provenance() if environment is None else environment)
        facts.pop("date", None)
        named = (
            facts.pop("commit", "unknown"),
            facts.pop("dirty", None),
            facts.pop("device", "unknown"),
            facts.pop("driver", ""),
        )
        environment_digest = digest([*named, facts])
        run = cls(ledger, uuid.uuid4().hex, suite, model_sha256, numerics, settings, environment_digest)
        with ledger.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO environment VALUES (?, ?, ?, ?, ?, ?)",
                (environment_digest, *named, canonical_json(facts)),
            )
            connection.execute(
                "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run.id,
                    kind,
                    suite,
                    now(),
                    environment_digest,
                    model,
                    model_sha256,
                    numerics,
                    canonical_json(settings),
                    os.getpid(),
                ),
            )
        return run

    def key_of(self, program=None) -> str:
        """The accuracy_key of a flow (None: full attention) in this run."""
        return accuracy_key(
            ir_hash=program.hash if program else None,
            ir_version=ir_version_of(program) if program else None,
            config=str(program.config) if program else None,
            model_sha256=self.model_sha256,
            suite=self.suite,
            settings=self.settings,
            numerics=self.numerics,
        )

    def arm(self, name: str, program=None, control: bool = False) -> Arm:
        """Another arm; program: a _core.Program, None for full attention."""
        role = FULL if program is None else "control" if control else "flow"
        version = ir_version_of(program) if program else None
        key = self.key_of(program)
        with self.ledger.write() as connection:
            if program is not None:
                connection.execute(
                    "INSERT OR IGNORE INTO flow VALUES (?, ?, ?, ?, ?, ?)",
                    (program.hash, version, program.name, program.doc, str(program.config), program.text()),
                )
            row = connection.execute(
                "INSERT INTO arm (run, name, role, flow_hash, ir_version, key) VALUES (?, ?, ?, ?, ?, ?)",
                (self.id, name, role, program.hash if program else None, version, key),
            ).lastrowid
        return Arm(row, name, key)

    def add_outcomes(self, outcomes: list[tuple[Arm, str, Outcome, int | None]]) -> None:
        """(arm, item, outcome, arm it is copied from or None), all or none of them."""
        with self.ledger.write() as connection:
            connection.executemany(
                "INSERT INTO outcome VALUES (?, ?, ?, ?, ?)",
                [
                    (arm.id, item, canonical_json(outcome.scores), canonical_json(outcome.observed), source)
                    for arm, item, outcome, source in outcomes
                ],
            )

    def add_blocks(self, blocks: list[tuple[Arm, Block]]) -> None:
        """Timed blocks, all or none of them."""
        with self.ledger.write() as connection:
            connection.executemany(
                "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        arm.id,
                        block.load,
                        block.round,
                        block.position,
                        block.baseline,
                        block.seconds,
                        canonical_json(block.observed),
                    )
                    for arm, block in blocks
                ],
            )

    def end(self, status: str = "done", reason: str = "") -> None:
        """status: done, failed or interrupted. The first end counts."""
        if not self._ended:
            self._ended = True
            with self.ledger.write() as connection:
                connection.execute(
                    "INSERT INTO run_end VALUES (?, ?, ?, ?, ?)",
                    (self.id, now(), status, reason, canonical_json(self.summary)),
                )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind, error, _trace) -> None:
        if kind is None:
            self.end()
        elif issubclass(kind, (KeyboardInterrupt, SystemExit)):
            self.end("interrupted")
        else:
            self.end("failed", " ".join(str(error).split())[:500])
