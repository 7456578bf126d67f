"""The built-in agent: search over flows without a language model, and the control that any other agent must beat.

Four variants a round, each slot with a role: exploit (a small edit of a flow on the frontier), explore (edits of the best flow of a cell of the
archive that was seldom tried), cross (two flows of the frontier), knobs (settings and numbers alone). Of several candidates for a slot the one is
proposed that the study's screens and its price favour. A study without flows begins with random programs. Deterministic given the seed and
what was measured.
"""

from __future__ import annotations

import random

from ... import _core
from .. import edits
from ..archive import Known, Standing, known
from ..frontier import Point
from ..mutate import Variant, vary
from ..study import Draft, Proposal, Study
from ..surrogate import Surrogate
from .knobs import EDITS as KNOBS
from .knobs import Knobs
from .random_programs import draw

ROLES = ("exploit", "explore", "cross", "knobs")
CROSSES = ("cross_scores", "cross_sets", "cross_stream")
CANDIDATES = 4  # drawn for a slot


class BuiltIn:
    author = "built-in"

    def __init__(self, seed: int, sampler: str = "edits"):
        self.seed, self.knobs = seed, Knobs(seed, sampler)

    def drafts(self, study: Study, points: list[Point], laboratory, round: int, variants: int) -> list[Draft]:
        now = known(study, points)
        guide = Surrogate(now)
        made: list[Draft] = []
        hashes = set(now.hashes)
        for slot in range(variants):
            role = ROLES[slot % len(ROLES)]
            rng = random.Random(f"{self.seed} {round} {slot}")
            name = f"r{round}_{slot}"
            if not now.standing:
                draft = _from_nothing(rng, laboratory, hashes, name)
            elif role == "knobs" and self.knobs.sampler != "edits":
                draft = self.knobs.draft(now, laboratory, rng, hashes, name)
            else:
                draft = _edited(role, now, guide, laboratory, rng, hashes, name)
            if draft is not None:
                hashes.add(draft.program.hash)
                made.append(draft)
        return made


def _from_nothing(rng: random.Random, laboratory, hashes: set[str], name: str) -> Draft | None:
    program = draw(rng, laboratory.geometry, known=hashes, name=name)
    return program and Draft(program, program.text(), "a random program: nothing is known yet")


def _edited(
    role: str, now: Known, guide: Surrogate, laboratory, rng: random.Random, hashes: set[str], name: str
) -> Draft | None:
    parent, program = _parent(role, now, rng)
    found = [
        variant
        for _ in range(CANDIDATES)
        if (variant := _variant(role, program, now, rng, laboratory.geometry, hashes, name))
    ]
    if not found:
        return None
    before, expected = now.predicted.get(parent.id, 1.0), guide.gain(program)
    priced = [
        (variant, laboratory.price(variant.program)["step_speedup"], guide.gain(variant.program)) for variant in found
    ]
    variant, speedup, gain = max(priced, key=lambda one: _promise(one[1] / before, one[2], expected, rng))
    said = _hypothesis(role, parent, program, variant, speedup, before, gain)
    return Draft(variant.program, variant.program.text(), said, (parent.id,))


def _parent(role: str, now: Known, rng: random.Random) -> Standing:
    if role == "explore":
        cells, tried = now.cells(), now.tried()
        names = sorted(cells)
        flows = cells[rng.choices(names, [1.0 / tried[name] for name in names])[0]]
        return flows[0] if rng.random() < 0.7 else rng.choice(flows)
    front = now.frontier()
    return rng.choices(front, [now.worth(proposal.id) + 0.02 for proposal, _ in front])[0]


def _variant(
    role: str, program: _core.Program, now: Known, rng: random.Random, geometry, hashes: set[str], name: str
) -> Variant | None:
    allowed = {
        "knobs": [edit for edit in edits.EDITS if edit.name in KNOBS],
        "cross": [edit for edit in edits.EDITS if edit.name in CROSSES],
    }.get(role)
    donors = [other for _, other in now.frontier()]
    return vary(program, rng, geometry, donors=donors, known=hashes, name=name, tries=40, allowed=allowed)


def _promise(cheaper: float, gain: float | None, before: float | None, rng: random.Random) -> float:
    """Cheaper is better, up to a point; what the screens expect counts as much; some that promise less are let through."""
    better = 0.0 if gain is None or before is None else max(-0.5, min(0.5, gain - before))
    return min(cheaper, 1.5) + better + rng.uniform(0.0, 0.5)


def _hypothesis(
    role: str,
    parent: Proposal,
    program: _core.Program,
    variant: Variant,
    speedup: float,
    before: float,
    gain: float | None,
) -> str:
    direction = (
        "faster"
        if speedup > 1.01 * before
        else "slower, and more accurate"
        if speedup < 0.99 * before
        else "as fast, and more accurate"
    )
    screen = "" if gain is None else f", {gain:+.2f} nat by the screens of flows like it"
    return f"{role} of {parent.id} ({program.name}): {variant.described}; expected {direction} than it ({speedup:.2f} for {before:.2f} times by bytes{screen})"
