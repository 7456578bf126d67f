"""Agents: what proposes the flows of a round. Each is given the study and says drafts; all it knows comes from there.

`built-in` edits programs and needs no language model; `random` and `knobs` are the arms it is compared with; `openai` asks a language
model behind any OpenAI-compatible endpoint. Nothing here measures a flow.
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


NAMES = ("built-in", "random", "knobs", "openai")


def make(name: str, seed: int, *, sampler: str = "edits", **options) -> Agent:
    """The agent of this name. sampler: of the knobs, see knobs.SAMPLERS; options: those of openai.LanguageModel."""
    if name == "built-in":
        from .built_in import BuiltIn

        return BuiltIn(seed, sampler)
    if name == "random":
        from .random_programs import RandomPrograms

        return RandomPrograms(seed)
    if name == "knobs":
        from .knobs import Knobs

        return Knobs(seed, sampler)
    if name == "openai":
        from .openai import LanguageModel

        return LanguageModel(seed=seed, **options)
    near = _core.nearest_name(name, list(NAMES))
    raise UserError(
        "--agent", f"one of {', '.join(NAMES)}", repr(name), f'did you mean "{near}"?' if near else "name one of them"
    )


def prices(text: str) -> tuple[float, float]:
    """ "2.5,10": dollars of a million tokens asked and of a million answered."""
    try:
        asked, answered = (float(part) for part in text.split(","))
        if not (0 <= asked < 1e6 and 0 <= answered < 1e6):
            raise ValueError
    except ValueError:
        raise UserError(
            "--dollars", "two prices from 0 on, as 2.5,10", repr(text), "leave it out where tokens are free"
        ) from None
    return asked, answered
