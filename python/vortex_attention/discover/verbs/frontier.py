"""frontier: the measured flows with the probability that each is on the frontier. What is not confirmed is provisional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Frontier

if TYPE_CHECKING:
    from .desk import Desk


def frontier(desk: Desk, all: Annotated[bool, Says("those that are surely off it, too")] = False) -> Frontier:
    """Show the frontier of the study."""
    from ..campaign import MARGIN
    from ..frontier import OUT

    study = desk.study()
    standings = desk.standings(study)
    return Frontier(
        study.name,
        MARGIN,
        [one for one in standings if all or one.state != OUT],
        sum(1 + len(one.twins) for one in standings),
        desk.confirmations_left(study),
    )
