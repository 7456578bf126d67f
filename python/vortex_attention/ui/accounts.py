"""Where a study's proposals ended and what it cost: failures by reason, seconds by gate and by agent. Counts only; judges nothing."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict

from ..discover.queue import Queue
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


def cost(study: Study, verdicts: dict[int, dict[str, Verdict]]) -> dict:
    """Seconds that gates took, and each agent's account: what it handed in, seconds by gate, tokens and money that were written down."""
    by_gate: dict[str, list[Verdict]] = defaultdict(list)
    for gates in verdicts.values():
        for verdict in gates.values():
            by_gate[verdict.gate].append(verdict)
    gates = []
    for gate in GATES:
        times = [verdict.seconds for verdict in by_gate[gate]]
        if times:
            statuses = Counter(verdict.status for verdict in by_gate[gate])
            gates.append(
                {
                    "gate": gate,
                    "count": len(times),
                    "seconds": sum(times),
                    "median": statistics.median(times),
                    "statuses": dict(statuses),
                }
            )
    agents = [
        {
            "agent": one.agent,
            "proposals": one.proposals,
            "submissions": one.submissions,
            "seconds": one.seconds,
            "spent": one.spent,
        }
        for one in Queue(study).accounts()
    ]
    return {"gates": gates, "agents": agents, "seconds": sum(row["seconds"] for row in gates)}
