"""spend: writes down what an agent used beside gates, tokens or money, so that its gains can be set against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Spent

if TYPE_CHECKING:
    from .desk import Desk


def spend(
    desk: Desk,
    tokens_in: Annotated[int, Says("tokens read by a language model", least=0, most=10**12)] = 0,
    tokens_out: Annotated[int, Says("tokens written by it", least=0, most=10**12)] = 0,
    dollars: Annotated[float, Says("what they cost", least=0, most=10**9)] = 0.0,
    proposal: Annotated[int | None, Says("for which proposal", least=1)] = None,
    agent: Annotated[str | None, Says("who asks: the same name in every call", most=64)] = None,
) -> Spent:
    """Write down what an agent used beside gates."""
    study, author, queue = desk.study(), desk.author(agent), desk.queue()
    if proposal is not None:
        study.proposal(proposal)
    for what, amount in (("tokens_in", tokens_in), ("tokens_out", tokens_out), ("dollars", dollars)):
        if amount:
            queue.spend(author, what, amount, proposal)
    return Spent(author, next((one.spent for one in queue.accounts() if one.agent == author), {}))
