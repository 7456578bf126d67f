"""propose: a flow with its hypothesis gets its number in the study, before any result. What does not become a flow is kept, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Class, Flow, Says, Settings
from .records import Proposed

if TYPE_CHECKING:
    from .desk import Desk


def propose(
    desk: Desk,
    flow: Flow,
    hypothesis: Annotated[str, Says("what you expect of it, and why, before any number", most=8192)],
    parents: Annotated[list[int], Says("numbers of the proposals it comes from", most=64)] = [],  # noqa: B006
    settings: Settings = {},  # noqa: B006
    name: Class = None,
    agent: Annotated[str | None, Says("who asks: the same name in every call", most=64)] = None,
) -> Proposed:
    """Hand a flow in with its hypothesis; it is measured when it is submitted."""
    from ...errors import UserError
    from ..queue import status_of, twin_of
    from .desk import gates_of
    from .records import problem_of

    study, author = desk.study(), desk.author(agent)
    if not hypothesis.strip():
        raise UserError(
            "propose: hypothesis",
            "a hypothesis, written before the result",
            "none",
            "say what you expect of the flow, and why",
        )
    for parent in parents:
        study.proposal(parent)
    draft = desk.drafted(flow, hypothesis, parents, settings, name)
    same = [
        one
        for one in study.proposals()
        if one.round == 0
        and (one.author, one.source, one.hypothesis, one.parents, one.handed_in)
        == (author, draft.source, draft.hypothesis, draft.parents, draft.handed_in)
    ]
    (found,) = same[:1] or study.propose(author, [draft])
    gates = gates_of(study, found.id)
    status, twin = status_of(gates), twin_of(gates)
    error = problem_of(gates["check"].reason) if found.flow_hash is None else None
    if error:
        after = [f"explain-error --proposal {found.id}", "propose it again, mended"]
    elif twin:
        after = [f"result {twin}: it means the same and answers for this one"]
    else:
        after = [f"submit {found.id}"] if status == "open" else [f"result {found.id}"]
    return Proposed(
        found.id, study.name, status, desk.name_of(study, found), found.flow_hash, twin, bool(same), error, after
    )
