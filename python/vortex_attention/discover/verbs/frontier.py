"""frontier: the measured flows with the probability that each is on the frontier, and which confirmed ones beat the ready flows. What is not
confirmed is provisional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Beaten, Estimate, Frontier

if TYPE_CHECKING:
    from ..claims import Claim
    from .desk import Desk


def frontier(desk: Desk, all: Annotated[bool, Says("those that are surely off it, too")] = False) -> Frontier:
    """Show the frontier of the study."""
    from ..claims import MARGIN, claims
    from ..confirmations import samples_of
    from ..frontier import OUT

    study = desk.study()
    standings = desk.standings(study)
    return Frontier(
        study.name,
        MARGIN,
        [one for one in standings if all or one.state != OUT],
        sum(1 + len(one.twins) for one in standings),
        desk.confirmations_left(study),
        [_beaten(one) for one in claims(samples_of(study))],
    )


def _beaten(claim: Claim) -> Beaten:
    return Beaten(
        claim.proposal,
        claim.kind,
        claim.against,
        Estimate(claim.ratio, claim.ratio_low, claim.ratio_high, claim.rounds),
        Estimate(claim.advantage, claim.advantage_low, claim.advantage_high, claim.shared),
        claim.p,
        claim.wins,
        str(claim),
    )
