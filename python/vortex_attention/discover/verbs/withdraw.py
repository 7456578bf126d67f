"""withdraw: takes back what an agent submitted and no gate has answered. What was measured stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Withdrawn

if TYPE_CHECKING:
    from .desk import Desk


def withdraw(
    desk: Desk,
    proposal: Annotated[int, Says("the number of a proposal", least=1)],
    reason: Annotated[str, Says("why", most=500)] = "",
    agent: Annotated[str | None, Says("who asks: the same name in every call", most=64)] = None,
) -> Withdrawn:
    """Take back a submission of one's own."""
    desk.study().proposal(proposal)
    taken = desk.queue().withdraw(desk.author(agent), proposal, reason)
    note = "" if taken else "nothing of this agent waits for a gate"
    return Withdrawn(proposal, [one.until for one in taken], note)
