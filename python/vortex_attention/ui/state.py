"""What the page shows of a study, JSON-ready, from a ledger that is read while others write. Finished numbers are kept from one look to
the next, so a look costs what is new. Names, sources, reasons and hypotheses are handed on as they are: untrusted text.
"""

from __future__ import annotations

import json
import threading
import time

from ..discover import claims
from ..discover.claims import MARGIN, SPEED_MARGIN
from ..discover.confirmations import samples_of
from ..discover.frontier import Measured, frontier
from ..discover.history import growth
from ..discover.queue import Queue
from ..discover.study import GATES, PASSED, Study, is_alive
from ..ledger import Ledger, digest
from ..ledger.store import now
from . import accounts

LEASE_LOOK = 5.0  # seconds after which a state is made again although the ledger has not changed: leases run out
HYPOTHESIS = 400  # characters of a hypothesis in the list; the proposal's own page has all of it


class WatchedStudy(Study):
    """A study whose numbers of ended runs are read once. A retraction anywhere forgets them all."""

    def __init__(self, ledger: Ledger, name: str, settings: dict):
        super().__init__(ledger, name, settings)
        self._gains: dict[str, dict] = {}
        self._ratios: dict[str, dict] = {}
        self._retracted = -1

    def look(self) -> None:
        retracted = self.ledger.rows("SELECT count(*) AS n FROM retraction")[0]["n"]
        if retracted != self._retracted:
            self._gains, self._ratios, self._retracted = {}, {}, retracted

    def gains(self, run: str) -> dict[str, float]:
        if run not in self._gains:
            self._gains[run] = super().gains(run)
        return self._gains[run]

    def _by_ends(self, run: str) -> dict[str | None, tuple[float, ...]]:
        if run not in self._ratios:
            self._ratios[run] = super()._by_ends(run)
        return self._ratios[run]


class Watch:
    """All studies of one ledger. Safe to use from several threads."""

    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self._studies: dict[str, WatchedStudy] = {}
        self._made: dict[str, tuple[tuple, str, dict]] = {}  # the ledger's version, the tag, the state
        self._points: dict[tuple, tuple[list, list]] = {}
        self._lock = threading.Lock()

    def version(self) -> tuple[int, int]:
        """Another value whenever somebody has written, or leases are to be looked at again."""
        return self.ledger.rows("PRAGMA data_version")[0]["data_version"], int(time.monotonic() / LEASE_LOOK)

    def studies(self) -> list[dict]:
        """The newest first: name, when it began, how many proposals."""
        return self.ledger.rows(
            "SELECT s.name, s.began, (SELECT count(*) FROM proposal p WHERE p.study = s.name) AS proposals FROM study s ORDER BY s.began DESC, s.rowid DESC"
        )

    def open(self, name: str) -> WatchedStudy:
        """UserError when the ledger has no such study."""
        if name not in self._studies:
            self._studies[name] = WatchedStudy.open(self.ledger, name)
        return self._studies[name]

    def state(self, name: str) -> tuple[str, dict]:
        """Everything of the page but the details of a single proposal, and a tag that changes when it does; while somebody is at work
        also every few seconds, for what is said of how long."""
        with self._lock:
            version = self.version()
            if name not in self._made or self._made[name][0] != version:
                state = self._state(self.open(name))
                same = digest({key: value for key, value in state.items() if key != "now"})[:16]
                self._made[name] = version, f"{same}-{version[1]}" if state["working"] else same, state
            return self._made[name][1:]

    def frontier(self, name: str, round: int) -> list[dict]:
        """Points as they stood after a round: of the proposals of that round and earlier ones, and of those from outside that
        came before the next round."""
        with self._lock:
            study = self.open(name)
            study.look()
            later = min((proposal.id for proposal in study.proposals() if proposal.round > round), default=None)
            measured = [one for one in self._measured(study) if later is None or int(one.key) < later]
            return [point.to_json() for point in self._frontier(name, measured)[0]]

    # Pieces

    def _measured(self, study: WatchedStudy) -> list[Measured]:
        """In the order of the proposals."""
        return sorted(study.measured(), key=lambda one: int(one.key))

    def _frontier(self, name: str, measured: list[Measured]) -> tuple[list, list]:
        key = (name, *((one.key, len(one.gains), len(one.log_ratios), sum(one.gains.values())) for one in measured))
        if key not in self._points:
            while len(self._points) >= 64:
                self._points.pop(next(iter(self._points)))
            self._points[key] = frontier(measured, margin=MARGIN, volume=False), growth(measured)
        return self._points[key]

    def _state(self, study: WatchedStudy) -> dict:
        study.look()
        verdicts, times = study.verdicts(), _times(study)  # before the proposals: none speaks of one that is not read
        proposals = study.proposals()
        about = _about(study)
        measured = self._measured(study)
        points, curve = self._frontier(study.name, measured)
        by_key = {point.key: point for point in points}
        shared = {twin: point.key for point in points for twin in point.twins}
        samples = samples_of(study)
        leases = _leases(study)
        turns = Queue(study).waiting(busy=True)
        asked = {turn.proposal.id for turn in turns}
        rows = []
        for proposal in proposals:
            gates = verdicts.get(proposal.id, {})
            point = by_key.get(str(proposal.id))
            rows.append(
                {
                    "id": proposal.id,
                    "round": proposal.round,
                    "slot": proposal.slot,
                    "author": proposal.author,
                    "parents": list(proposal.parents),
                    "hypothesis": proposal.hypothesis[:HYPOTHESIS],
                    "hash": proposal.flow_hash,
                    **about.get(proposal.id, {"name": "", "at": ""}),
                    "gates": {
                        gate: {
                            "status": verdict.status,
                            "reason": verdict.reason,
                            "seconds": verdict.seconds,
                            "at": times.get((proposal.id, gate), ""),
                        }
                        for gate, verdict in gates.items()
                    },
                    "state": _standing(
                        study, gates, point, str(proposal.id) in shared, proposal.round > 0 or proposal.id in asked
                    ),
                    "point": shared.get(str(proposal.id)) or (point.key if point else None),
                    "measured": _numbers(gates),
                }
            )
        working = _working(study, leases, {row["id"]: row for row in rows})
        return {
            "study": study.name,
            "settings": study.settings,
            "now": now(),
            "gates": list(GATES),
            "margin": MARGIN,
            "speed_margin": SPEED_MARGIN,
            "proposals": rows,
            "points": [point.to_json() for point in points],
            "growth": [vars(one) for one in curve],
            "confirmed": [vars(one) for one in claims.confirmed(samples)],
            "claims": [vars(one) for one in claims.claims(samples)],
            "working": working,
            "queue": [
                {"proposal": turn.proposal.id, "gate": turn.gate, "agent": turn.submission.agent}
                for turn in turns
                if turn.proposal.id not in leases
            ],
            "failures": accounts.failures(proposals, verdicts),
            "cost": accounts.cost(study, verdicts),
        }


def _times(study: Study) -> dict[tuple[int, str], str]:
    rows = study.ledger.rows(
        "SELECT v.proposal, v.gate, v.at FROM verdict v JOIN proposal p ON p.id = v.proposal WHERE p.study = ?",
        (study.name,),
    )
    return {(row["proposal"], row["gate"]): row["at"] for row in rows}


def _about(study: Study) -> dict[int, dict]:
    """Name of the flow and when it was proposed."""
    rows = study.ledger.rows(
        "SELECT p.id, p.at, f.name FROM proposal p LEFT JOIN flow f ON f.hash = p.flow_hash AND f.ir_version = p.ir_version WHERE p.study = ?",
        (study.name,),
    )
    return {row["id"]: {"name": row["name"] or "", "at": row["at"]} for row in rows}


def _leases(study: Study) -> dict[int, dict]:
    """Of each proposal its last lease, when somebody alive holds it."""
    rows = study.ledger.rows(
        "SELECT l.proposal, l.worker, l.until FROM lease l JOIN (SELECT max(id) AS id FROM lease GROUP BY proposal) m ON m.id = l.id "
        "JOIN proposal p ON p.id = l.proposal WHERE p.study = ? AND l.until > ?",
        (study.name, time.time()),
    )
    return {row["proposal"]: row for row in rows if is_alive(row["worker"])}


def _standing(study: Study, gates: dict, point, is_twin: bool, asked: bool) -> str:
    """One word: in, undecided, out (of the frontier); twin; the status that ended it; measuring; proposed, when nobody asked for its next gate."""
    ended = next((verdict.status for verdict in gates.values() if verdict.status != PASSED), None)
    if ended:
        return ended
    if point:
        return point.state
    if is_twin:
        return "twin"
    if study.next_gate(gates) is None:
        return "retracted"
    return "measuring" if asked else "proposed"


def _numbers(gates: dict) -> dict:
    """The proposal's own gain and ratio as its gates saw them: {"center", "low", "high"}; confirm's where there is one."""
    found: dict = {}
    for gate in ("gate", "confirm"):
        if gate in gates and isinstance(gates[gate].facts.get("gain"), dict):
            found["gain"] = gates[gate].facts["gain"]
    if "bench" in gates and isinstance(gates["bench"].facts.get("ratio"), dict):
        found["ratio"] = gates["bench"].facts["ratio"]
    return found


def _working(study: Study, leases: dict[int, dict], rows: dict[int, dict]) -> list[dict]:
    """Proposals that somebody is at work on: the gate, the worker, items and blocks measured so far by the run that is open."""
    found = []
    for id, lease in leases.items():
        row = rows.get(id)
        if row is None:
            continue
        gate = next((gate for gate in GATES if gate not in row["gates"]), None)
        run = study.ledger.rows(
            "SELECT r.id, r.began, r.settings FROM run r JOIN arm a ON a.run = r.id WHERE a.flow_hash = ? AND r.suite = ? "
            "AND r.id NOT IN (SELECT run FROM run_end) ORDER BY r.began DESC LIMIT 1",
            (row["hash"], f"discover {gate}"),
        )
        found.append(
            {
                "proposal": id,
                "gate": gate,
                "worker": lease["worker"],
                **(_progress(study.ledger, run[0], gate) if run else {}),
            }
        )
    return found


def _progress(ledger: Ledger, run: dict, gate: str) -> dict:
    counted = ledger.rows(
        "SELECT (SELECT count(*) FROM outcome o JOIN arm a ON a.id = o.arm WHERE a.run = ? AND a.role != 'full') AS items, "
        "(SELECT count(*) FROM block b JOIN arm a ON a.id = b.arm WHERE a.run = ? AND a.role != 'full') AS blocks",
        (run["id"], run["id"]),
    )[0]
    of = json.loads(run["settings"]).get("workload", {}).get(f"{gate}_items")
    return {
        "since": run["began"],
        "items": counted["items"],
        "blocks": counted["blocks"],
        "of": of if isinstance(of, int) else None,
    }
