"""screen: asks for the cheap gates alone, check and screen: a few needles, the pages it chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Submitted
from .submit import submit

if TYPE_CHECKING:
    from .desk import Desk


def screen(
    desk: Desk,
    proposal: Annotated[int, Says("the number of a proposal", least=1)],
    agent: Annotated[str | None, Says("who asks: the same name in every call", most=64)] = None,
) -> Submitted:
    """Ask for the cheap gates of a proposal."""
    return submit(desk, proposal, "screen", agent)
