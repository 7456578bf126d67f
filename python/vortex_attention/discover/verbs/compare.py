"""compare: one proposal beside another: accuracy on the items both saw, speed, what differs in the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Compared, Estimate

if TYPE_CHECKING:
    from ..differences import Difference
    from .desk import Desk


def compare(
    desk: Desk,
    a: Annotated[int, Says("the number of a proposal", least=1)],
    b: Annotated[int | None, Says("of another; the first parent of a when not given", least=1)] = None,
) -> Compared:
    """Compare two proposals by items, time and program."""
    import difflib

    from ...errors import UserError
    from ...measure.statistics import mean_interval
    from ..differences import beside, faster
    from .desk import estimate_of, gates_of

    study = desk.study()
    one = study.proposal(a)
    if b is None and not one.parents:
        raise UserError("compare", "two proposals, or one with a parent", f"{a} has no parent", "name both")
    other = study.proposal(one.parents[0] if b is None else b)
    gain = ratio = None
    items = "none that both saw"
    for gate in ("confirm", "gate", "screen"):
        runs = [gates[gate].run if (gates := gates_of(study, id)).get(gate) else None for id in (one.id, other.id)]
        if not all(runs):
            continue
        gains = [study.gains(run) for run in runs]
        shared = sorted(set(gains[0]) & set(gains[1]))
        if shared:
            gain = estimate_of(mean_interval([gains[0][item] - gains[1][item] for item in shared]))
            items = f"{len(shared)} of {gate}"
            break
    for gate in ("confirm", "bench"):
        runs = [gates[gate].run if (gates := gates_of(study, id)).get(gate) else None for id in (one.id, other.id)]
        logs = [study.log_ratios(run) if run else () for run in runs]
        pairs = study.beside(runs[0]).get(other.flow_hash, ()) if runs[0] else ()
        if not pairs and runs[1]:
            pairs = tuple(-ratio for ratio in study.beside(runs[1]).get(one.flow_hash, ()))
        if len(pairs) > 1:  # timed beside each other
            ratio = _times(beside(pairs), len(pairs))
            break
        if all(len(values) > 1 for values in logs):
            ratio = _times(faster(*logs), min(map(len, logs)))
            break
    texts = [_lines(study, proposal) for proposal in (other, one)]
    diff = "\n".join(difflib.unified_diff(*texts, f"proposal {other.id}", f"proposal {one.id}", lineterm="", n=2))
    return Compared(one.id, other.id, gain, ratio, items, diff, _said(one.id, other.id, gain, ratio))


def _times(difference: Difference, rounds: int) -> Estimate:
    """From log time."""
    import math

    return Estimate(*map(math.exp, (difference.center, *difference.interval())), rounds)


def _lines(study, proposal) -> list[str]:
    """The program without names and places in the source."""
    if proposal.flow_hash is None:
        return []
    lines = study.program(proposal).text().splitlines()
    return [line.rsplit(" ; ", 1)[0] for line in lines if not line.startswith(("flow ", "doc ", "source "))]


def _said(a: int, b: int, gain, ratio) -> str:
    def side(what: str, estimate, neutral: float, better: str, worse: str) -> str:
        if estimate is None:
            return f"{what} was not measured of both alike"
        return (
            better
            if estimate.low > neutral
            else worse
            if estimate.high < neutral
            else f"neither surely {better} nor {worse}"
        )

    return f"{a} beside {b}: {side('accuracy', gain, 0.0, 'more accurate', 'less accurate')}; {side('speed', ratio, 1.0, 'faster', 'slower')} (95 %, each by itself)"
