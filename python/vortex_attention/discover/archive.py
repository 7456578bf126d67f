"""What an agent knows of a study: the proposals that stand, their places on the frontier, and an archive by kind of flow.

The archive is that of quality-diversity search (MAP-Elites, Mouret and Clune, 2015): a cell holds flows that remember and choose in the
same way, and is known by its best. So a kind of flow that is behind today is not forgotten.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .. import _core
from .frontier import OUT, Point
from .graph import Graph
from .study import FAILED, QUARANTINED, Proposal, Study

Standing = tuple[Proposal, _core.Program]


@dataclass(frozen=True)
class Known:
    """standing: proposals that passed their screen and no gate has stopped. points: by proposal id, as are predicted (speed-up by bytes)
    and screened (gain on the screen's items, whether it passed or not). programs: all proposals that became a flow which a graph can hold."""

    standing: list[Standing]
    points: dict[int, Point]
    hashes: set[str]
    predicted: dict[int, float]
    screened: dict[int, float] = field(default_factory=dict)
    programs: dict[int, _core.Program] = field(default_factory=dict)

    def frontier(self) -> list[Standing]:
        found = [
            (proposal, program)
            for proposal, program in self.standing
            if proposal.id in self.points and self.points[proposal.id].state != OUT
        ]
        return found or self.standing

    def cells(self) -> dict[tuple, list[Standing]]:
        """Standing flows by cell, the best first: those on the frontier, then by gain on the screen."""
        found: dict[tuple, list[Standing]] = {}
        for proposal, program in self.standing:
            found.setdefault(cell(program), []).append((proposal, program))
        for flows in found.values():
            flows.sort(key=lambda one: (-self.worth(one[0].id), -self.screened.get(one[0].id, 0.0), one[0].id))
        return found

    def tried(self) -> Counter:
        """Proposals of each cell, stopped ones too."""
        return Counter(cell(program) for program in self.programs.values())

    def worth(self, id: int) -> float:
        """Share of the frontier's hypervolume that would go without it."""
        return self.points[id].hypervolume_gain if id in self.points else 0.0


def known(study: Study, points: list[Point]) -> Known:
    verdicts = study.verdicts()
    standing, hashes, predicted, screened, programs = [], set(), {}, {}, {}
    for proposal in study.proposals():
        if proposal.flow_hash is None:
            continue
        hashes.add(proposal.flow_hash)
        gates = verdicts.get(proposal.id, {})
        if "check" in gates:
            predicted[proposal.id] = float(gates["check"].facts.get("step_speedup", 1.0))
        program = study.readable(proposal)
        if program is None or not Graph.holds(program):  # it stays on the frontier, and is nobody's parent
            continue
        programs[proposal.id] = program
        if "screen" in gates and "gain" in gates["screen"].facts:
            screened[proposal.id] = float(gates["screen"].facts["gain"])
        if "screen" in gates and not any(verdict.status in (FAILED, QUARANTINED) for verdict in gates.values()):
            standing.append((proposal, program))
    return Known(standing, {int(point.key): point for point in points}, hashes, predicted, screened, programs)


def cell(program: _core.Program) -> tuple:
    """What kind of thing a flow remembers, how it chooses, what it shares, and how many pages in powers of two."""
    graph = Graph.of(program)
    ops = graph.ops(graph.live())
    budget = int(graph.config.get("budget", "0") or 0)
    return (
        min(len(program.summaries), 4),
        "low_frequency" in ops,
        "split" in ops,
        "members" in ops,
        "select" in graph.roots,
        "rest_logit" in graph.roots,
        bool(graph.states),
        "reuse" in graph.config or "refresh_every" in graph.config,
        budget.bit_length(),
    )
