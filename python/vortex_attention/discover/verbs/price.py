"""price: bytes of a decode step and the speed-up they allow, from the program and the model's shape alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Class, Flow, Says, Settings
from .records import Price, Priced

if TYPE_CHECKING:
    from .desk import Desk


def price(
    desk: Desk,
    flow: Flow = "",
    proposal: Annotated[int | None, Says("a proposal instead of a flow", least=1)] = None,
    settings: Settings = {},  # noqa: B006
    name: Class = None,
    contexts: Annotated[list[int], Says("tokens of a sequence; the study's when none is given", most=16)] = [],  # noqa: B006
) -> Priced:
    """Say what a flow would read in a step, and how fast it can be at most."""
    from ...errors import UserError
    from ..mutate import require_short
    from ..pricing import pricing_of

    study = desk.study()
    if any(not 1 <= context <= 2**24 for context in contexts):
        raise UserError(
            "price: contexts", "lengths from 1 to 16777216 tokens", ", ".join(map(str, contexts)), "name others"
        )
    if bool(flow) == (proposal is not None):
        raise UserError("price", "a flow or a proposal", "both" if flow else "neither", "give one of them")
    if proposal is not None:
        program = study.program(study.proposal(proposal))
    else:
        draft = desk.drafted(flow, settings=settings, name=name)
        if draft.program is None:
            raise _as_error(draft.refused)
        program = draft.program
    require_short(program)
    pricing = pricing_of(study.settings)
    prices = [
        Price(context, **pricing_of(study.settings, context=context).price(program))
        for context in contexts or [pricing.workload.context]
    ]
    return Priced(program.name, program.hash, pricing.workload.model, pricing.workload.batch, prices)


def _as_error(text: str):
    from ...errors import UserError
    from .records import problem_of

    problem = problem_of(text)
    return UserError(problem.where or "price", problem.required or text, problem.came, problem.todo)
