"""compare: one proposal beside another: accuracy on the items both saw, speed, what differs in the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Compared

if TYPE_CHECKING:
    from .desk import Desk


def compare(
    desk: Desk,
    a: Annotated[int, Says("the number of a proposal", least=1)],
    b: Annotated[int | None, Says("of another; the first parent of a when not given", least=1)] = None,
) -> Compared:
    """Compare two proposals by items, time and program."""
    import difflib
    import math

    from scipy import stats

    from ...errors import UserError
    from ...measure.statistics import mean_interval
    from .desk import estimate_of, gates_of
    from .records import Estimate

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
    logs = [
        study.log_ratios(gates["bench"].run)
        if (gates := gates_of(study, id)).get("bench") and gates["bench"].run
        else ()
        for id in (one.id, other.id)
    ]
    if all(len(values) > 1 for values in logs):
        interval = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
        center = sum(logs[0]) / len(logs[0]) - sum(logs[1]) / len(logs[1])
        ratio = Estimate(math.exp(center), math.exp(interval.low), math.exp(interval.high), min(map(len, logs)))
    texts = [_lines(study, proposal) for proposal in (other, one)]
    diff = "\n".join(difflib.unified_diff(*texts, f"proposal {other.id}", f"proposal {one.id}", lineterm="", n=2))
    return Compared(one.id, other.id, gain, ratio, items, diff, _said(one.id, other.id, gain, ratio))


def _lines(study, proposal) -> list[str]:
    """The program without names and places in the source."""
    if proposal.flow_hash is None:
        return []
    lines = study.program(proposal).text().splitlines()
    return [line.rsplit(" ; ", 1)[0] for line in lines if not line.startswith(("flow ", "doc ", "source "))]


def _said(a: int, b: int, gain, ratio) -> str:
    def side(estimate, neutral: float, better: str, worse: str) -> str:
        if estimate is None or estimate.low is None:
            return f"not both were measured for {better}"
        return (
            better
            if estimate.low > neutral
            else worse
            if estimate.high < neutral
            else f"neither surely {better} nor {worse}"
        )

    return f"{a} beside {b}: {side(gain, 0.0, 'more accurate', 'less accurate')}; {side(ratio, 1.0, 'faster', 'slower')} (95 %, each by itself)"
