"""Agents: what proposes the flows of a round. Each is given the study and says drafts; all it knows comes from there.

`built-in` edits programs and needs no language model; `random` and `knobs` are the arms it is compared with. Nothing here measures a flow.
"""

from __future__ import annotations

from typing import Protocol

from ... import _core
from ...errors import UserError
from ..frontier import Point
from ..study import Draft, Study


class Agent(Protocol):
    author: str

    def drafts(self, study: Study, points: list[Point], laboratory, round: int, variants: int) -> list[Draft]:
        """The proposals of a round, fewer where nothing more was found. laboratory: geometry and price are asked of it."""
        ...


NAMES = ("built-in", "random", "knobs")


def make(name: str, seed: int, *, sampler: str = "edits") -> Agent:
    """The agent of this name. sampler: of the knobs, see knobs.SAMPLERS."""
    if name == "built-in":
        from .built_in import BuiltIn

        return BuiltIn(seed, sampler)
    if name == "random":
        from .random_programs import RandomPrograms

        return RandomPrograms(seed)
    if name == "knobs":
        from .knobs import Knobs

        return Knobs(seed, sampler)
    near = _core.nearest_name(name, list(NAMES))
    raise UserError(
        "--agent", f"one of {', '.join(NAMES)}", repr(name), f'did you mean "{near}"?' if near else "name one of them"
    )
