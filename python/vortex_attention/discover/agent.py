"""The built-in agent: search over flows without a language model, and the control that any other agent must beat.

Four variants a round, each slot with a role: exploit (a small edit of a flow on the frontier), explore (edits of a flow from a cell of the
archive that was seldom tried), cross (two flows of the frontier), knobs (settings and numbers alone). All it knows comes from the study
in the ledger, so a round is the same whoever computes it; deterministic given the seed and what was measured.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from .. import _core
from . import edits
from .frontier import OUT, Point
from .graph import Graph
from .mutate import Geometry, Variant, vary
from .study import FAILED, QUARANTINED, Draft, Proposal

ROLES = ("exploit", "explore", "cross", "knobs")
KNOBS = ("budget", "pinned", "constant", "weight", "temperature", "coarser", "slow_channels", "nucleus")
CROSSES = ("cross_scores", "cross_sets")
CANDIDATES = 4  # drawn for a slot; the one that its price favours is proposed
AUTHOR = "built-in"


@dataclass(frozen=True)
class Known:
    """What the agent is told of the study so far: proposals that stand, their programs, points of the frontier by proposal id."""

    standing: list[tuple[Proposal, _core.Program]]
    points: dict[int, Point]
    hashes: set[str]
    predicted: dict[int, float]  # speed-up by bytes, by proposal id

    def frontier(self) -> list[tuple[Proposal, _core.Program]]:
        found = [(proposal, program) for proposal, program in self.standing
                 if proposal.id in self.points and self.points[proposal.id].state != OUT]
        return found or self.standing


def known(study, points: list[Point]) -> Known:
    verdicts, proposals = study.verdicts(), study.proposals()
    standing, hashes, predicted = [], set(), {}
    for proposal in proposals:
        if proposal.flow_hash is None:
            continue
        hashes.add(proposal.flow_hash)
        gates = verdicts.get(proposal.id, {})
        if "check" in gates:
            predicted[proposal.id] = float(gates["check"].facts.get("step_speedup", 1.0))
        if "screen" in gates and not any(verdict.status in (FAILED, QUARANTINED) for verdict in gates.values()):
            program = study.program(proposal)
            if Graph.holds(program):  # others stay on the frontier, and are nobody's parents
                standing.append((proposal, program))
    return Known(standing, {int(point.key): point for point in points}, hashes, predicted)


def drafts(known: Known, geometry: Geometry, price, seed: int, round: int, variants: int = 4) -> list[Draft]:
    """The proposals of a round, fewer where nothing new was found. price: program → facts with step_speedup."""
    if not known.standing:
        return []
    made: list[Draft] = []
    hashes = set(known.hashes)
    for slot in range(variants):
        role = ROLES[slot % len(ROLES)]
        rng = random.Random(f"{seed} {round} {slot}")
        parent, program = _parent(role, known, rng)
        found = [variant for _ in range(CANDIDATES) if (variant := _variant(role, program, known, rng, geometry, hashes, f"r{round}_{slot}"))]
        if not found:
            continue
        variant, speedup = max(((variant, price(variant.program)["step_speedup"]) for variant in found),
                               key=lambda pair: _promise(pair[1], known.predicted.get(parent.id, 1.0), rng))
        hashes.add(variant.program.hash)
        made.append(Draft(variant.program, variant.program.text(), _hypothesis(role, parent, program, variant, speedup, known), (parent.id,)))
    return made


def _parent(role: str, known: Known, rng: random.Random) -> tuple[Proposal, _core.Program]:
    if role == "explore":
        cells: dict[tuple, list] = {}
        for proposal, program in known.standing:
            cells.setdefault(cell(program), []).append((proposal, program))
        tried = Counter(cell(program) for _, program in known.standing)
        names = sorted(cells)
        return rng.choice(cells[rng.choices(names, [1.0 / tried[name] for name in names])[0]])
    front = known.frontier()
    worth = [known.points[proposal.id].hypervolume_gain + 0.02 if proposal.id in known.points else 0.02 for proposal, _ in front]
    return rng.choices(front, worth)[0]


def cell(program: _core.Program) -> tuple:
    """The archive's cell of a flow: what kind of thing it remembers and how it chooses, and how many pages."""
    graph = Graph.of(program)
    ops = {graph.nodes[index].op for index in graph.live()}
    budget = int(graph.config.get("budget", "0") or 0)
    return (len(program.summaries), "low_frequency" in ops, "split" in ops, "select" in graph.roots, "rest_logit" in graph.roots,
            budget.bit_length())


def _variant(role: str, program: _core.Program, known: Known, rng: random.Random, geometry: Geometry, hashes: set[str], name: str) -> Variant | None:
    allowed = {"knobs": [edit for edit in edits.EDITS if edit.name in KNOBS],
               "cross": [edit for edit in edits.EDITS if edit.name in CROSSES]}.get(role)
    donors = [other for _, other in known.frontier()]
    return vary(program, rng, geometry, donors=donors, known=hashes, name=name, tries=40, allowed=allowed)


def _promise(speedup: float, parent: float, rng: random.Random) -> float:
    """Cheaper is better, up to a point; some candidates that cost more are let through."""
    return min(speedup / parent, 1.5) + rng.uniform(0.0, 0.5)


def _hypothesis(role: str, parent: Proposal, program: _core.Program, variant: Variant, speedup: float, known: Known) -> str:
    before = known.predicted.get(parent.id, 0.0)
    direction = "faster" if speedup > 1.01 * before else "slower, and more accurate" if speedup < 0.99 * before else "as fast, and more accurate"
    return f"{role} of {parent.id} ({program.name}): {variant.described}; expected {direction} than it ({speedup:.2f} for {before:.2f} times by bytes)"
