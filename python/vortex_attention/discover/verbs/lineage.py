"""lineage: where a proposal comes from and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Lineage

if TYPE_CHECKING:
    from .desk import Desk


def lineage(desk: Desk, proposal: Annotated[int, Says("the number of a proposal", least=1)]) -> Lineage:
    """Show the ancestors and the descendants of a proposal."""
    study = desk.study()
    start = study.proposal(proposal)
    by_id, verdicts = {one.id: one for one in study.proposals()}, study.verdicts()

    def reached(start: int, step) -> list[int]:
        found, queue = [], [start]
        while queue:
            for id in step(queue.pop(0)):
                if id not in found and id != start:
                    found.append(id)
                    queue.append(id)
        return found

    children: dict[int, list[int]] = {}
    for one in by_id.values():
        for parent in one.parents:
            children.setdefault(parent, []).append(one.id)
    above = reached(start.id, lambda id: by_id[id].parents)
    below = reached(start.id, lambda id: children.get(id, []))
    return Lineage(
        proposal, *([desk.row(study, by_id[id], verdicts.get(id, {})) for id in ids] for ids in (above, below))
    )
