"""A study in the ledger: proposals with the hypothesis written first, the verdict of each gate, leases of who is at work.

Append-only, and every step is one transaction: whatever is killed, nothing is lost and nothing is there twice. Several processes work
on one study; a proposal is worked on by one at a time, and a worker that died gives its work back.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass, field, replace

from .. import _core
from ..errors import UserError
from ..ledger import Ledger, canonical_json
from ..ledger.run import ir_version_of
from ..ledger.store import now
from ..measure.rounds import log_ratio
from .frontier import Measured

GATES = ("check", "screen", "gate", "bench", "confirm")  # in order; a proposal that fails one sees no later one
PASSED, FAILED, ANSWERED, QUARANTINED = "passed", "failed", "answered", "quarantined"
LEASE_SECONDS = 600.0
PROPOSING = (
    "variants",
    "agent",
    "knobs",
    "model_name",
    "start",
)  # settings of whoever proposes: a study may have several
LONGEST_SOURCE, LONGEST_HYPOTHESIS = 256 << 10, 8 << 10  # characters of a proposal


@dataclass(frozen=True)
class Proposal:
    id: int
    round: int
    slot: int
    author: str
    flow_hash: str | None
    source: str
    parents: tuple[int, ...]
    hypothesis: str
    at: str = ""
    handed_in: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a gate said. run: the ledger's run that holds its numbers."""

    gate: str
    status: str
    reason: str
    seconds: float = 0.0
    run: str | None = None
    facts: dict = field(default_factory=dict)
    at: str = field(default="", compare=False)  # when it was written


@dataclass(frozen=True)
class Draft:
    """A proposal that is not in the ledger yet. program: None when the source did not become a flow, for the reason `refused`."""

    program: _core.Program | None
    source: str
    hypothesis: str
    parents: tuple[int, ...] = ()
    refused: str = ""
    handed_in: dict = field(default_factory=dict)  # beside the source: settings, the class that is meant


class Study:
    """Use `Study.open`; the ledger stays the caller's."""

    def __init__(self, ledger: Ledger, name: str, settings: dict):
        self.ledger, self.name, self.settings = ledger, name, settings

    @classmethod
    def open(cls, ledger: Ledger, name: str, settings: dict | None = None) -> Study:
        """The study of this name. settings: those it begins with when it is not there; others than it has are refused, but for those of PROPOSING."""
        if settings is not None:
            with ledger.write() as connection:
                connection.execute(
                    "INSERT OR IGNORE INTO study VALUES (?, ?, ?)", (name, now(), canonical_json(settings))
                )
        found = ledger.rows("SELECT settings FROM study WHERE name = ?", (name,))
        if not found:
            names = [row["name"] for row in ledger.rows("SELECT name FROM study ORDER BY began")]
            near = _core.nearest_name(name, names)
            raise UserError(
                "discover",
                f"a study of this ledger: {', '.join(names) or 'it has none'}",
                f'"{name}"',
                f'did you mean "{near}"?' if near else "begin one: vortex study begin, or vortex discover",
            )
        kept = json.loads(found[0]["settings"])
        settings = kept if settings is None else settings
        fixed = {*kept, *settings} - set(PROPOSING)
        differing = sorted(key for key in fixed if canonical_json(kept.get(key)) != canonical_json(settings.get(key)))
        if differing:
            raise UserError(
                "discover",
                f"the settings that study {name} began with",
                "; ".join(f"{key} {settings.get(key)!r} instead of {kept.get(key)!r}" for key in differing),
                "go on with the same settings, or begin another study with --study",
            )
        return cls(ledger, name, kept)

    # Proposals

    def propose(self, author: str, drafts: list[Draft], round: int = 0) -> list[Proposal]:
        """All drafts of a round in one transaction. A round that is there already is returned as it stands; round 0 is for
        proposals from outside, which take the next slots."""
        with self.ledger.write() as connection:
            there = connection.execute(
                "SELECT count(*) FROM proposal WHERE study = ? AND round = ?", (self.name, round)
            ).fetchone()[0]
            if round == 0 or not there:
                for offset, draft in enumerate(drafts):
                    self._insert(connection, author, draft, round, there + offset)
        # Of round 0 those of this call alone: somebody else may have handed in the next ones meanwhile.
        mine = range(there, there + len(drafts))
        return [
            proposal for proposal in self.proposals() if proposal.round == round and (round or proposal.slot in mine)
        ]

    def _insert(self, connection, author: str, draft: Draft, round: int, slot: int) -> None:
        if objection := self._objection(connection, draft):  # its flow is not taken, so that nobody is answered by it
            draft = replace(draft, program=None, parents=(), refused=objection)
        draft = replace(
            draft, source=_text(draft.source, LONGEST_SOURCE), hypothesis=_text(draft.hypothesis, LONGEST_HYPOTHESIS)
        )
        version = flow_hash = None
        if draft.program is not None:
            version, flow_hash = ir_version_of(draft.program), draft.program.hash
            connection.execute(
                "INSERT OR IGNORE INTO flow VALUES (?, ?, ?, ?, ?, ?)",
                (
                    flow_hash,
                    version,
                    draft.program.name,
                    draft.program.doc,
                    str(draft.program.config),
                    draft.program.text(),
                ),
            )
        twin = connection.execute(
            "SELECT min(id) FROM proposal WHERE study = ? AND flow_hash = ?", (self.name, flow_hash)
        ).fetchone()[0]
        id = connection.execute(
            "INSERT INTO proposal (study, round, slot, at, author, flow_hash, ir_version, source, parents, hypothesis, handed_in) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.name,
                round,
                slot,
                now(),
                author,
                flow_hash,
                version,
                draft.source,
                canonical_json(list(draft.parents)),
                draft.hypothesis,
                canonical_json(draft.handed_in),
            ),
        ).lastrowid
        if draft.program is None:
            self._write(connection, id, Verdict("check", FAILED, draft.refused))
        elif twin is not None:
            self._write(
                connection, id, Verdict("check", ANSWERED, f"means what proposal {twin} means", facts={"twin": twin})
            )

    def _objection(self, connection, draft: Draft) -> str:
        """What is wrong with a proposal whatever its flow is; "" when nothing."""
        if not draft.hypothesis.strip():
            return "[proposal] a hypothesis, written before the result; none; say what you expect of the flow, and why"
        for name, text, longest in (
            ("source", draft.source, LONGEST_SOURCE),
            ("hypothesis", draft.hypothesis, LONGEST_HYPOTHESIS),
        ):
            if len(text) > longest:
                return f"[proposal] a {name} of at most {longest} characters; {len(text)}; say it in fewer"
        known = {row["id"] for row in connection.execute("SELECT id FROM proposal WHERE study = ?", (self.name,))}
        if unknown := [parent for parent in draft.parents if parent not in known]:
            return f"[proposal] parents that are proposals of study {self.name}; {', '.join(map(str, unknown[:8]))}; name proposals that are there"
        return ""

    def proposals(self) -> list[Proposal]:
        rows = self.ledger.rows("SELECT * FROM proposal WHERE study = ? ORDER BY id", (self.name,))
        return [_proposal(row) for row in rows]

    def proposal(self, id: int) -> Proposal:
        rows = self.ledger.rows("SELECT * FROM proposal WHERE study = ? AND id = ?", (self.name, id))
        if not rows:
            last = self.ledger.rows(
                "SELECT count(*) AS n, max(id) AS last FROM proposal WHERE study = ?", (self.name,)
            )[0]
            raise UserError(
                "discover",
                f"the number of a proposal of study {self.name}",
                f"{id}; it has {last['n']}, the latest is {last['last']}" if last["n"] else f"{id}; it has none",
                "see vortex study flows, or propose one",
            )
        return _proposal(rows[0])

    def program(self, proposal: Proposal) -> _core.Program:
        rows = self.ledger.rows(
            "SELECT f.ir FROM proposal p JOIN flow f ON f.hash = p.flow_hash AND f.ir_version = p.ir_version "
            "WHERE p.id = ?",
            (proposal.id,),
        )
        if not rows:
            raise UserError(
                "discover", "a proposal that became a flow", f"proposal {proposal.id} did not", "see its verdict"
            )
        program = _core.parse_flow(rows[0]["ir"])
        program.verify()
        return program

    def readable(self, proposal: Proposal) -> _core.Program | None:
        """Its program; None where it did not become a flow, or where this language does not read it: a ledger may be of an earlier one."""
        try:
            return self.program(proposal)
        except UserError:
            return None

    # Verdicts

    def verdicts(self, only: int | None = None) -> dict[int, dict[str, Verdict]]:
        """Of every proposal (or one), by gate in the order of GATES."""
        rows = self.ledger.rows(
            "SELECT v.* FROM verdict v JOIN proposal p ON p.id = v.proposal WHERE p.study = ? AND (? IS NULL OR p.id = ?)",
            (self.name, only, only),
        )
        found: dict[int, dict[str, Verdict]] = {}
        for row in sorted(rows, key=lambda row: GATES.index(row["gate"])):
            found.setdefault(row["proposal"], {})[row["gate"]] = Verdict(
                row["gate"],
                row["status"],
                row["reason"],
                row["seconds"],
                row["run"],
                json.loads(row["facts"]),
                row["at"],
            )
        return found

    def judge(self, proposal: Proposal, verdict: Verdict) -> bool:
        """Writes a verdict; False when the gate has spoken already, which then stands."""
        with self.ledger.write() as connection:
            return self._write(connection, proposal.id, verdict)

    @staticmethod
    def _write(connection, proposal: int, verdict: Verdict) -> bool:
        row = (
            proposal,
            verdict.gate,
            now(),
            verdict.status,
            verdict.reason,
            verdict.seconds,
            verdict.run,
            canonical_json(verdict.facts),
        )
        return connection.execute("INSERT OR IGNORE INTO verdict VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row).rowcount == 1

    def next_gate(self, verdicts: dict[str, Verdict], last: str = "bench") -> str | None:
        """The gate a proposal with these verdicts is to pass next, up to `last`; None when it is done."""
        if any(verdict.status != PASSED for verdict in verdicts.values()):
            return None
        return next((gate for gate in GATES[: GATES.index(last) + 1] if gate not in verdicts), None)

    # Leases

    def take(self, worker: str, only: list[int] | None = None) -> tuple[Proposal, str] | None:
        """The oldest proposal with a gate to pass that nobody alive is at work on, now leased to `worker`, and that gate."""
        with self.ledger.write() as connection:
            verdicts = self.verdicts()
            for proposal in self.proposals():
                gate = self.next_gate(verdicts.get(proposal.id, {}))
                if gate is None or (only is not None and proposal.id not in only):
                    continue
                if _lease(connection, proposal.id, worker):
                    return proposal, gate
        return None

    def take_for(self, gate: str, proposal: Proposal, worker: str) -> bool:
        """This proposal for this gate, unless somebody alive is at work on it or the gate has spoken."""
        with self.ledger.write() as connection:
            return self.lease_for(connection, gate, proposal, worker)

    @staticmethod
    def lease_for(connection, gate: str, proposal: Proposal, worker: str) -> bool:
        """take_for, in a transaction that has begun."""
        spoken = connection.execute(
            "SELECT 1 FROM verdict WHERE proposal = ? AND gate = ?", (proposal.id, gate)
        ).fetchone()
        return spoken is None and _lease(connection, proposal.id, worker)

    def renew(self, proposal: Proposal, worker: str) -> None:
        """A worker that is still at it says so before its lease ends."""
        self._go_on(proposal, worker, time.time() + LEASE_SECONDS)

    def give_back(self, proposal: Proposal, worker: str) -> None:
        self._go_on(proposal, worker, 0.0)

    def _go_on(self, proposal: Proposal, worker: str, until: float) -> None:
        """The worker's lease now ends at `until`; that of somebody who took the proposal over stands."""
        with self.ledger.write() as connection:
            connection.execute(
                "INSERT INTO lease (proposal, worker, until) SELECT ?, ?, ? WHERE ? = "
                "(SELECT worker FROM lease WHERE proposal = ? ORDER BY id DESC LIMIT 1)",
                (proposal.id, worker, until, worker, proposal.id),
            )

    # Numbers

    def devices(self) -> list[str]:
        """On which the speeds of its verdicts were measured."""
        rows = self.ledger.rows(
            "SELECT DISTINCT e.device FROM verdict v JOIN proposal p ON p.id = v.proposal JOIN run r ON r.id = v.run "
            "JOIN environment e ON e.digest = r.environment WHERE p.study = ? AND v.gate IN ('bench', 'confirm')",
            (self.name,),
        )
        return [row["device"] for row in rows]

    def measured(self) -> list[Measured]:
        """Every proposal that passed its bench, from the outcomes and blocks of the runs its verdicts name. Items and blocks of
        `confirm` count instead of the earlier ones, where there are any: they were drawn for it alone."""
        out = []
        for id, gates in self.verdicts().items():
            sources = [gates[name] for name in ("confirm", "bench", "gate") if name in gates and gates[name].run]
            if (
                "bench" not in gates
                or gates["bench"].status != PASSED
                or any(v.status == QUARANTINED for v in gates.values())
            ):
                continue
            gains = next((found for verdict in sources if (found := self.gains(verdict.run))), {})
            ratios = next((found for verdict in sources if (found := self.log_ratios(verdict.run))), ())
            if gains and ratios:
                shown = self.gains(gates["gate"].run) if "gate" in gates and gates["gate"].run else {}
                out.append(
                    Measured(
                        str(id), gains, ratios, gates.get("screen", gates["bench"]).facts.get("behaviour", ""), shown
                    )
                )
        return out

    def gains(self, run: str) -> dict[str, float]:
        """Log-probability of the flow minus full attention's, nat, by item."""
        rows = self.ledger.rows(
            "SELECT a.role, o.item, o.scores FROM outcome o JOIN arm a ON a.id = o.arm WHERE a.run = ? "
            "AND a.run NOT IN (SELECT run FROM retraction)",
            (run,),
        )
        full = {row["item"]: json.loads(row["scores"])["log_probability"] for row in rows if row["role"] == "full"}
        return {
            row["item"]: json.loads(row["scores"])["log_probability"] - full[row["item"]]
            for row in rows
            if row["role"] != "full" and row["item"] in full
        }

    def log_ratios(self, run: str) -> tuple[float, ...]:
        """log(full attention's seconds ÷ the flow's), one a round of full, flow, flow, full."""
        return self._by_ends(run).get(None, ())

    def beside(self, run: str) -> dict[str, tuple[float, ...]]:
        """By the hash of each flow that another was timed beside in a run: log(its seconds ÷ the other's), one a round of the two."""
        return {flow: ratios for flow, ratios in self._by_ends(run).items() if flow is not None}

    def _by_ends(self, run: str) -> dict[str | None, tuple[float, ...]]:
        """Log ratios by the hash of the flow that stood at both ends of the round, None for full attention."""
        rows = self.ledger.rows(
            "SELECT a.flow_hash, b.load, b.round, b.position, b.seconds, CASE WHEN b.position IN (0, 3) THEN a.name ELSE b.baseline END AS ends "
            "FROM block b JOIN arm a ON a.id = b.arm WHERE a.run = ? AND a.run NOT IN (SELECT run FROM retraction) ORDER BY b.round",
            (run,),
        )
        hashes: dict[str, str | None] = {}
        rounds: dict[tuple[str, str, int], dict[int, float]] = {}
        for row in rows:
            if row["position"] in (0, 3):
                hashes[row["ends"]] = row["flow_hash"]
            rounds.setdefault((row["ends"], row["load"], row["round"]), {})[row["position"]] = row["seconds"]
        found: dict[str | None, list[float]] = {}
        for (ends, _, _), seconds in rounds.items():
            if sorted(seconds) == [0, 1, 2, 3]:
                found.setdefault(hashes[ends], []).append(log_ratio([seconds[place] for place in range(4)]))
        return {flow: tuple(ratios) for flow, ratios in found.items()}


def _lease(connection, proposal: int, worker: str) -> bool:
    """A lease for `worker`, unless another that is alive holds one."""
    holder = connection.execute(
        "SELECT worker, until FROM lease WHERE proposal = ? ORDER BY id DESC LIMIT 1", (proposal,)
    ).fetchone()
    if holder and holder["worker"] != worker and holder["until"] > time.time() and is_alive(holder["worker"]):
        return False
    connection.execute(
        "INSERT INTO lease (proposal, worker, until) VALUES (?, ?, ?)", (proposal, worker, time.time() + LEASE_SECONDS)
    )
    return True


def _text(text: str, longest: int) -> str:
    """What the ledger can hold of text from outside: UTF-8, without half characters and zeros, of bounded length."""
    return text[:longest].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _proposal(row: dict) -> Proposal:
    return Proposal(
        row["id"],
        row["round"],
        row["slot"],
        row["author"],
        row["flow_hash"],
        row["source"],
        tuple(json.loads(row["parents"])),
        row["hypothesis"],
        row["at"],
        json.loads(row["handed_in"]),
    )


def this_worker() -> str:
    """Host, process id, and when the process began, so that a later process of the same id is another worker."""
    return f"{socket.gethostname()}:{os.getpid()}:{_began(os.getpid())}"


def is_alive(worker: str) -> bool:
    """False when the worker is of this host and its process is gone; workers of other hosts count as alive until their lease ends."""
    host, _, rest = worker.partition(":")
    process, _, began = rest.partition(":")
    if host != socket.gethostname() or not process.isdigit():
        return True
    return _began(int(process)) == began


def _began(process: int) -> str:
    """When the process began, in ticks; "" when it is gone, or dead and only not fetched by its parent."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
            return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""
