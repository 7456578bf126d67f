"""accounts: what every agent handed in, what its gates cost, what it spent, and whose turn is next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .records import Accounts

if TYPE_CHECKING:
    from .desk import Desk


def accounts(desk: Desk) -> Accounts:
    """Show the accounts of all agents and the queue."""
    from .. import worker
    from ..frontier import OUT
    from .records import Account

    study = desk.study()
    queue = desk.queue()
    on = {}
    for one in desk.standings(study):
        if one.state != OUT:
            on.setdefault(one.author, []).append(one.proposal)
    found = [
        Account(
            one.agent,
            one.proposals,
            one.submissions,
            dict(one.by_status),
            one.seconds,
            one.spent,
            on.get(one.agent, []),
        )
        for one in queue.accounts()
    ]
    return Accounts(
        study.name,
        found,
        sum(sum(one.seconds.values()) for one in found),
        worker.at_work(study),
        [turn.proposal.id for turn in queue.waiting()],
    )
