"""submit: asks for the gates of a proposal. The answer is at once; the number of the proposal is the handle of the job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Submitted

if TYPE_CHECKING:
    from .desk import Desk


def submit(
    desk: Desk,
    proposal: Annotated[int, Says("the number of a proposal", least=1)],
    until: Annotated[
        str,
        Says(
            "the last gate: bench, or confirm for what stands on the frontier",
            one_of=("check", "screen", "gate", "bench", "confirm"),
        ),
    ] = "bench",
    agent: Annotated[str | None, Says("who asks: the same name in every call", most=64)] = None,
) -> Submitted:
    """Ask for the gates of a proposal, up to one of them."""
    study = desk.study()
    points = desk.points(study) if until == "confirm" else []
    submission = desk.queue().submit(desk.author(agent), proposal, until, points)
    desk.attend(study)
    state = desk.state(proposal)
    return Submitted(
        proposal,
        submission.id,
        submission.agent,
        submission.until,
        state.job,
        state.position or 0,
        state.workers,
        state.next,
    )
