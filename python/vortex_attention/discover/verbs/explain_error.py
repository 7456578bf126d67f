"""explain-error: why something was refused, what to do, with an example of the mistake and of its cure. Takes an error's text, or a proposal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Explained

if TYPE_CHECKING:
    from .desk import Desk


def explain_error(
    desk: Desk,
    error: Annotated[str, Says("the text of the error", most=20000)] = "",
    proposal: Annotated[int | None, Says("a proposal that failed, instead", least=1)] = None,
) -> Explained:
    """Explain an error, or why a proposal went no further."""
    from ...errors import UserError
    from .desk import gates_of
    from .mistakes import find
    from .records import problem_of

    if bool(error.strip()) == (proposal is not None):
        raise UserError(
            "explain-error",
            "the text of an error or a proposal",
            "both" if error.strip() else "neither",
            "give one of them",
        )
    if proposal is not None:
        study = desk.study()
        study.proposal(proposal)
        failed = [gate for gate in gates_of(study, proposal).values() if gate.status != "passed"]
        if not failed:
            raise UserError(
                "explain-error",
                "a proposal that a gate refused",
                f"proposal {proposal} is not",
                f"see result {proposal}",
            )
        error = failed[0].reason
    problem = problem_of(error.strip())
    mistake = find(error)
    if mistake is None:
        cause = "No example is kept for this one; its own words say what was required, what came and what to do."
        return Explained(
            "other",
            cause,
            problem.todo or "see reference language, or check the flow again after a change",
            "",
            "",
            problem,
        )
    return Explained(mistake.kind, mistake.cause, mistake.fix, mistake.wrong, mistake.right, problem)
