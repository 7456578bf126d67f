"""Where a study's proposals ended and what it cost: failures by reason, seconds by gate and by author. Counts only; judges nothing."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict

from ..discover.study import GATES, PASSED, Proposal, Study, Verdict

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
EXAMPLES = 12


def failures(proposals: list[Proposal], verdicts: dict[int, dict[str, Verdict]]) -> list[dict]:
    """Verdicts that ended a proposal, those that differ in their numbers alone together; the most frequent first."""
    found: dict[tuple, dict] = {}
    known = {proposal.id for proposal in proposals}
    for id, gates in verdicts.items():
        for verdict in gates.values():
            if verdict.status == PASSED or id not in known:
                continue
            words = _NUMBER.sub("#", verdict.reason)
            row = found.setdefault(
                (verdict.gate, verdict.status, words),
                {
                    "gate": verdict.gate,
                    "status": verdict.status,
                    "reason": words,
                    "example": verdict.reason,
                    "count": 0,
                    "proposals": [],
                },
            )
            row["count"] += 1
            if len(row["proposals"]) < EXAMPLES:
                row["proposals"].append(id)
    return sorted(found.values(), key=lambda row: (-row["count"], GATES.index(row["gate"]), row["reason"]))


def cost(study: Study, proposals: list[Proposal], verdicts: dict[int, dict[str, Verdict]]) -> dict:
    """Seconds that gates took, by gate and by author, and what authors reported of tokens and money in the ledger."""
    authors = {proposal.id: proposal.author for proposal in proposals}
    by_gate: dict[str, list[Verdict]] = defaultdict(list)
    by_author: dict[str, dict] = {}
    for proposal in proposals:
        _author(by_author, proposal.author)["proposals"] += 1
    for id, gates in verdicts.items():
        for verdict in gates.values():
            if id in authors:
                by_gate[verdict.gate].append(verdict)
                row = _author(by_author, authors[id])
                row["seconds"][verdict.gate] = row["seconds"].get(verdict.gate, 0.0) + verdict.seconds
    gates = []
    for gate in GATES:
        times = [verdict.seconds for verdict in by_gate[gate]]
        if times:
            statuses: dict[str, int] = {}
            for verdict in by_gate[gate]:
                statuses[verdict.status] = statuses.get(verdict.status, 0) + 1
            gates.append(
                {
                    "gate": gate,
                    "count": len(times),
                    "seconds": sum(times),
                    "median": statistics.median(times),
                    "statuses": statuses,
                }
            )
    return {
        "gates": gates,
        "authors": sorted(by_author.values(), key=lambda row: row["author"]),
        "seconds": sum(row["seconds"] for row in gates),
    }


def _author(found: dict[str, dict], name: str) -> dict:
    return found.setdefault(name, {"author": name, "proposals": 0, "seconds": {}})
