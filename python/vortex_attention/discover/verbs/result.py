"""result: all that is known of a proposal: verdicts with reasons and runs, its place on the frontier, who paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Result

if TYPE_CHECKING:
    from .desk import Desk


def result(desk: Desk, proposal: Annotated[int, Says("the number of a proposal", least=1)]) -> Result:
    """Say all that is known of a proposal."""
    from ..queue import Queue, payer_of
    from .desk import gates_of

    study = desk.study()
    found = study.proposal(proposal)
    state = desk.state(proposal)
    submissions = Queue(study).of(proposal)
    rows = desk.ledger.rows(
        "SELECT f.doc, f.config FROM flow f JOIN proposal p ON p.flow_hash = f.hash AND p.ir_version = f.ir_version WHERE p.id = ?",
        (proposal,),
    )
    standing = (
        next((one for one in desk.standings(study) if proposal in (one.proposal, *one.twins)), None)
        if any(gate.gate == "bench" for gate in state.gates)
        else None
    )
    children = [one.id for one in study.proposals() if proposal in one.parents]
    return Result(
        proposal,
        study.name,
        found.at,
        found.author,
        desk.name_of(study, found),
        rows[0]["doc"] if rows else "",
        found.flow_hash,
        rows[0]["config"] if rows else "",
        found.hypothesis,
        list(found.parents),
        children,
        found.source,
        state.job,
        state.status,
        state.gates,
        standing,
        {gate: payer_of(found, verdict, submissions) for gate, verdict in gates_of(study, proposal).items()},
        state.next,
    )
