"""flows: the proposals of a study: who handed in what, how far it came, why not further. Look here before you propose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Flows

if TYPE_CHECKING:
    from .desk import Desk


def flows(
    desk: Desk,
    author: Annotated[str | None, Says("of one author", most=64)] = None,
    status: Annotated[
        str | None, Says("of one status", one_of=("open", "passed", "failed", "answered", "quarantined"))
    ] = None,
    text: Annotated[str | None, Says("in name, hypothesis, reason or source", most=200)] = None,
    last: Annotated[int, Says("how many, the latest", least=1, most=1000)] = 30,
) -> Flows:
    """List proposals, the latest first."""
    study = desk.study()
    verdicts = study.verdicts()
    found = []
    for proposal in reversed(study.proposals()):
        row = desk.row(study, proposal, verdicts.get(proposal.id, {}))
        if (
            (author is None or row.author == author)
            and (status is None or row.status == status)
            and (not text or text.lower() in "\n".join((row.name, row.hypothesis, row.reason, proposal.source)).lower())
        ):
            found.append(row)
    return Flows(study.name, found[:last], len(found))
