"""check: is it a flow, does it fit the model of the study, has somebody handed it in already. Writes nothing and measures nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .args import Class, Flow, Settings
from .records import Checked

if TYPE_CHECKING:
    from .desk import Desk


def check(
    desk: Desk,
    flow: Flow,
    settings: Settings = {},  # noqa: B006
    name: Class = None,
) -> Checked:
    """Say what is wrong with a flow, or that it is right."""
    from ... import _core
    from ...errors import UserError
    from .. import honesty, mutate
    from ..pricing import pricing_of
    from .records import problem_of

    study = desk.study()
    draft = desk.drafted(flow, settings=settings, name=name)
    program = draft.program
    if program is None:
        return Checked(
            False, "", "", None, "", {}, [], None, problem_of(draft.refused), ["explain-error", "check again"]
        )
    pricing, error = pricing_of(study.settings), None
    stages: list[str] = []
    try:
        mutate.fits(program, pricing.geometry)
        stages = list(
            _core.compile_flow(
                program,
                head_dim=pricing.geometry.head_dim,
                group=pricing.geometry.group,
                value_dim=pricing.geometry.value_dim,
            ).stages
        )
        price = pricing.price(program)
        why = honesty.hidden_work(program, pricing.workload.steps) or honesty.no_promise(program, price)
        error = problem_of(why) if why else None
    except UserError as refused:
        error = problem_of(str(refused))
    twin = desk.ledger.rows(
        "SELECT min(id) AS id FROM proposal WHERE study = ? AND flow_hash = ?", (study.name, program.hash)
    )[0]["id"]
    after = ["mend it"] if error else [f"result {twin}"] if twin else ["price", "propose"]
    return Checked(
        error is None,
        program.name,
        program.doc,
        program.hash,
        str(program.config),
        dict(program.summaries),
        stages,
        twin,
        error,
        after,
    )
