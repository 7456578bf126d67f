"""wait: until a job is done or the time is up. It may be asked again, by anybody, whatever was killed in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import State

if TYPE_CHECKING:
    from .desk import Desk

LOOK_SECONDS, READ_SECONDS = 0.2, 2.0  # between two looks whether somebody wrote, and at most between two readings
STARTS = 2  # workers that a call starts; where they end at once, the state says why


def wait(
    desk: Desk,
    proposal: Annotated[int, Says("the number of a proposal", least=1)],
    timeout: Annotated[float, Says("seconds to wait at most", least=0, most=86400)] = 40.0,
) -> State:
    """Wait for a submitted proposal, a while; say where it stands."""
    import time

    from ..study import GATES

    deadline, told, started = time.monotonic() + timeout, -1, 0
    study = desk.study()
    while True:
        state = desk.state(proposal)
        spoken = len(state.gates)
        if spoken > told:
            told = spoken
            last = state.gates[-1] if state.gates else None
            total = GATES.index(state.until) + 1 if state.until else spoken
            desk.progress(
                spoken, max(total, spoken), f"{last.gate} {last.status}: {last.reason}" if last else state.job
            )
        stuck = state.note and started >= STARTS
        if state.job in ("done", "idle") or stuck or time.monotonic() >= deadline:
            return state
        if started < STARTS:
            started += desk.attend(study)
        version, again = _version(desk), min(deadline, time.monotonic() + READ_SECONDS)
        while _version(desk) == version and (left := again - time.monotonic()) > 0:
            time.sleep(min(LOOK_SECONDS, left))


def _version(desk: Desk) -> int:
    """Another number whenever somebody else has written to the ledger: cheap to ask."""
    return desk.ledger.rows("PRAGMA data_version")[0]["data_version"]
