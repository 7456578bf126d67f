"""The queue of a study: who asked for which gates of which proposal, whose turn it is, and what each agent has cost.

A submission asks for the gates of a proposal up to one of them; the same one twice is one, until it is taken back. Turns go round by agent: the agent that was served
longest ago is next, with its oldest submission, whatever the others have handed in. All of it is in the ledger, so any number of workers and of
agents share one queue, and what was asked for is there after a kill.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass, field

from ..errors import UserError
from ..ledger.store import now
from .claims import CONFIRMATIONS
from .frontier import OUT
from .study import ANSWERED, GATES, LEASE_SECONDS, PASSED, Proposal, Study, Verdict, is_alive

SPENT = ("tokens_in", "tokens_out", "dollars")


@dataclass(frozen=True)
class Submission:
    id: int
    proposal: int
    agent: str
    until: str
    at: str
    withdrawn: str = ""  # when it was; "" while it stands


@dataclass(frozen=True)
class Turn:
    """A gate of a proposal that a worker has taken, or is to take, for a submission."""

    proposal: Proposal
    gate: str
    submission: Submission


@dataclass
class Account:
    """What one agent handed in and cost. seconds: by gate, of the gates passed or failed for it; spent: by what (SPENT)."""

    agent: str
    proposals: int = 0
    submissions: int = 0
    by_status: Counter = field(default_factory=Counter)  # of its proposals: the status of the last gate
    seconds: dict[str, float] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)


class Queue:
    def __init__(self, study: Study):
        self.study, self.ledger = study, study.ledger

    # Asking

    def submit(self, agent: str, proposal: int, until: str = "bench", points: list = ()) -> Submission:
        """Asks for the gates up to `until`. confirm is for proposals on the frontier (`points`), CONFIRMATIONS of a study."""
        if until not in GATES:
            raise UserError("submit", f"a gate: {', '.join(GATES)}", repr(until), "leave it out for bench")
        self.study.proposal(proposal)
        with self.ledger.write() as connection:
            if until == "confirm":
                self._may_confirm(proposal, points)
            there = connection.execute(
                "SELECT id FROM submission WHERE proposal = ? AND until = ? AND id NOT IN (SELECT submission FROM withdrawal)",
                (proposal, until),
            ).fetchone()
            id = (
                there["id"]
                if there
                else connection.execute(
                    "INSERT INTO submission (proposal, at, agent, until) VALUES (?, ?, ?, ?)",
                    (proposal, now(), agent, until),
                ).lastrowid
            )
        return next(one for one in self.of(proposal) if one.id == id)

    def confirmations(self) -> set[int]:
        """Proposals whose confirmation was made, is asked for, or is being measured."""
        return self._confirming() | {
            row["proposal"]
            for row in self.ledger.rows(
                "SELECT s.proposal FROM submission s JOIN proposal p ON p.id = s.proposal WHERE p.study = ? AND s.until = 'confirm' "
                "AND s.id NOT IN (SELECT submission FROM withdrawal) UNION "
                "SELECT v.proposal FROM verdict v JOIN proposal p ON p.id = v.proposal WHERE p.study = ? AND v.gate = 'confirm'",
                (self.study.name,) * 2,
            )
        }

    def _confirming(self) -> set[int]:
        """Proposals that passed their bench and that somebody alive is at."""
        rows = self.ledger.rows(
            "SELECT l.proposal, l.worker FROM lease l JOIN (SELECT max(id) AS id FROM lease GROUP BY proposal) m ON m.id = l.id "
            "JOIN proposal p ON p.id = l.proposal JOIN verdict v ON v.proposal = l.proposal AND v.gate = 'bench' AND v.status = 'passed' "
            "WHERE p.study = ? AND l.until > ?",
            (self.study.name, time.time()),
        )
        return {row["proposal"] for row in rows if is_alive(row["worker"])}

    def take_confirmation(self, proposal: Proposal, worker: str) -> bool | None:
        """A lease for its confirmation; False while somebody is at it, None where the study has had all it may have."""
        with self.ledger.write() as connection:  # so that nobody asks for another meanwhile
            asked = self.confirmations()
            if proposal.id not in asked and len(asked) >= CONFIRMATIONS:
                return None
            return self.study.lease_for(connection, "confirm", proposal, worker)

    def _may_confirm(self, proposal: int, points: list) -> None:
        asked = self.confirmations()
        if proposal in asked:
            return
        if len(asked) >= CONFIRMATIONS:
            raise UserError(
                "submit",
                f"at most {CONFIRMATIONS} confirmations a study",
                f"all were asked for: {', '.join(map(str, sorted(asked)))}",
                "a confirmation is for the last word; compare by the frontier until then",
            )
        standing = {int(key) for point in points if point.state != OUT for key in (point.key, *point.twins)}
        if proposal not in standing:
            raise UserError(
                "submit",
                "a proposal that passed its bench and may be on the frontier",
                f"proposal {proposal}",
                "see vortex study frontier; submit it until bench first",
            )

    def withdraw(self, agent: str, proposal: int, reason: str) -> list[Submission]:
        """Takes back what this agent asked for and no gate has answered; a gate that is being measured goes to its end."""
        with self.ledger.write() as connection:
            waiting = {row["id"] for row in self._unanswered()}
            mine = [one for one in self.of(proposal) if one.agent == agent and one.id in waiting]
            connection.executemany(
                "INSERT OR IGNORE INTO withdrawal VALUES (?, ?, ?, ?)", [(one.id, now(), agent, reason) for one in mine]
            )
        return mine

    def of(self, proposal: int | None = None) -> list[Submission]:
        rows = self.ledger.rows(
            "SELECT s.*, w.at AS withdrawn FROM submission s JOIN proposal p ON p.id = s.proposal "
            "LEFT JOIN withdrawal w ON w.submission = s.id WHERE p.study = ? AND (? IS NULL OR s.proposal = ?) ORDER BY s.id",
            (self.study.name, proposal, proposal),
        )
        return [
            Submission(row["id"], row["proposal"], row["agent"], row["until"], row["at"], row["withdrawn"] or "")
            for row in rows
        ]

    # Serving

    def waiting(self, busy: bool = False) -> list[Turn]:
        """Turns in the order in which they come when nothing else is handed in; busy: those that a worker is at, too."""
        return self._in_order(self._open(busy))

    def places(self) -> tuple[list[int], set[int]]:
        """Proposals that wait, in the order of their turns; those that a worker is at."""
        free = self._ordered(self._open(False))
        return [row["proposal"] for row in free], {row["proposal"] for row in self._open(True)} - {
            row["proposal"] for row in free
        }

    def take(self, worker: str) -> Turn | None:
        """The next turn, now leased to `worker`; None when there is none."""
        if not self._open(False):  # without the lock of writers: most looks at the queue find it empty
            return None
        with self.ledger.write() as connection:
            turns = self._in_order(self._open(False), first=True)
            if not turns:
                return None
            connection.execute(
                "INSERT INTO lease (proposal, worker, until) VALUES (?, ?, ?)",
                (turns[0].proposal.id, worker, time.time() + LEASE_SECONDS),
            )
            return turns[0]

    def _unanswered(self) -> list[dict]:
        """Submissions that stand and have a gate to pass."""
        return self.ledger.rows(
            "SELECT s.id, s.proposal, s.agent, s.until, s.at, (SELECT group_concat(v.gate) FROM verdict v WHERE v.proposal = s.proposal) AS gates, "
            "(SELECT l.worker || char(10) || l.until FROM lease l WHERE l.proposal = s.proposal ORDER BY l.id DESC LIMIT 1) AS lease "
            "FROM submission s JOIN proposal p ON p.id = s.proposal WHERE p.study = ? AND s.id NOT IN (SELECT submission FROM withdrawal) "
            "AND NOT EXISTS (SELECT 1 FROM verdict v WHERE v.proposal = s.proposal AND (v.status != 'passed' OR v.gate = s.until)) ORDER BY s.id",
            (self.study.name,),
        )

    def _open(self, busy: bool) -> list[dict]:
        """The first of them of each proposal; unless `busy`, without those that somebody alive is at."""
        found, seen = [], set()
        for row in self._unanswered():
            if row["proposal"] in seen:  # the first submission of a proposal with a gate open pays for it
                continue
            seen.add(row["proposal"])
            if row["lease"] and not busy:
                worker, until = row["lease"].split("\n")
                if float(until) > time.time() and is_alive(worker):
                    continue
            found.append(row)
        return found

    def _in_order(self, rows: list[dict], first: bool = False) -> list[Turn]:
        return [self._turn(row) for row in self._ordered(rows)[: 1 if first else None]]

    def _turn(self, row: dict) -> Turn:
        gate = next(gate for gate in GATES if gate not in (row["gates"] or "").split(","))
        return Turn(
            self.study.proposal(row["proposal"]),
            gate,
            Submission(row["id"], row["proposal"], row["agent"], row["until"], row["at"]),
        )

    def _ordered(self, rows: list[dict]) -> list[dict]:
        """Round by agent, those first whose last turn is longest ago."""
        if not rows:
            return []
        by_agent: dict[str, list[dict]] = {}
        for row in rows:
            by_agent.setdefault(row["agent"], []).append(row)
        last = {
            row["agent"]: row["last"]
            for row in self.ledger.rows(
                "SELECT s.agent, max(l.id) AS last FROM lease l JOIN submission s ON s.proposal = l.proposal JOIN proposal p ON p.id = s.proposal "
                "WHERE p.study = ? AND l.until > 0 GROUP BY s.agent",
                (self.study.name,),
            )
        }
        agents = sorted(by_agent, key=lambda agent: (last.get(agent, 0), by_agent[agent][0]["id"]))
        rounds = itertools.zip_longest(*(by_agent[agent] for agent in agents))
        return [row for one in rounds for row in one if row is not None]

    # Accounts

    def spend(self, agent: str, what: str, amount: float, proposal: int | None = None) -> None:
        """Writes down what an agent has used beside gates: one of SPENT."""
        if what not in SPENT:
            raise UserError("spend", f"one of {', '.join(SPENT)}", repr(what), "count it as one of these")
        if not 0 <= amount < float("inf"):
            raise UserError("spend", f"an amount of {what} from 0 on", repr(amount), "nothing is taken back")
        with self.ledger.write() as connection:
            connection.execute(
                "INSERT INTO spending (study, at, agent, proposal, what, amount) VALUES (?, ?, ?, ?, ?, ?)",
                (self.study.name, now(), agent, proposal, what, float(amount)),
            )

    def accounts(self) -> list[Account]:
        """Of every agent of the study, by name. A gate is paid by the first that had asked for it when it spoke, by the author when nobody had."""
        found: dict[str, Account] = {}

        def of(agent: str) -> Account:
            return found.setdefault(agent, Account(agent))

        verdicts, asked = self.study.verdicts(), {}
        for one in self.of():
            asked.setdefault(one.proposal, []).append(one)
            of(one.agent).submissions += 1
        for proposal in self.study.proposals():
            account, gates = of(proposal.author), verdicts.get(proposal.id, {})
            account.proposals += 1
            account.by_status[status_of(gates)] += 1
            for gate, verdict in gates.items():
                payer = payer_of(proposal, verdict, asked.get(proposal.id, []))
                seconds = of(payer).seconds
                seconds[gate] = seconds.get(gate, 0.0) + verdict.seconds
        for row in self.ledger.rows(
            "SELECT agent, what, sum(amount) AS amount FROM spending WHERE study = ? GROUP BY agent, what",
            (self.study.name,),
        ):
            of(row["agent"]).spent[row["what"]] = row["amount"]
        return [found[agent] for agent in sorted(found)]


def status_of(gates: dict[str, Verdict]) -> str:
    """open (no gate has spoken), passed (all that have), failed, answered or quarantined."""
    return next((verdict.status for verdict in gates.values() if verdict.status != PASSED), PASSED if gates else "open")


def payer_of(proposal: Proposal, verdict: Verdict, submissions: list[Submission]) -> str:
    """Whose account a gate is on. One that was being measured when it was taken back is still its asker's."""
    asking = [
        one for one in submissions if GATES.index(one.until) >= GATES.index(verdict.gate) and one.at <= verdict.at
    ]
    standing = [one for one in asking if not one.withdrawn or one.withdrawn > verdict.at]
    return next((one.agent for one in standing or asking[-1:]), proposal.author)


def twin_of(gates: dict[str, Verdict]) -> int | None:
    """The proposal that answers for this one, when it means the same."""
    check = gates.get("check")
    return check.facts.get("twin") if check and check.status == ANSWERED else None
