"""A worker: takes what agents submitted through the gates, in turns, until it is told to stop or nothing has come for a while.

Its presence is in the ledger as events, so that whoever waits knows whether somebody is at work. `start` starts one that outlives the process
that asked for it. A failure of the machine ends a worker, with the reason as its last event; what was submitted stays.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import MachineError, UserError, VortexError
from . import confirmations, device
from .gates import Gates
from .queue import Queue, Turn
from .study import FAILED, LEASE_SECONDS, QUARANTINED, Proposal, Study, Verdict, _began, is_alive, this_worker

LOOK_SECONDS = 0.2  # between two looks at an empty queue
IDLE_SECONDS = 120.0  # after which a worker that was started in passing ends


def judge(study: Study, gates: Gates, proposal: Proposal, gate: str, seed: int = 0) -> Verdict:
    """Passes a proposal through one gate and writes the verdict. A flow that this language does not read, an earlier one's, fails. MachineError, and
    UserError of a study whose items tell nothing apart: not the proposal's fault, nothing is written."""
    try:
        program = study.program(proposal)
    except UserError as error:
        verdict = Verdict(gate, FAILED, " ".join(str(error).split())[:500])
        study.judge(proposal, verdict)
        return verdict
    with device.held(gate, gates.laboratory):
        if gate in device.TIMED:
            device.require_same(study.name, study.devices(), gates.environment["device"])
        gates.prepare(gate)
        began = time.perf_counter()
        try:
            rivals = confirmations.rivals_of(study, proposal) if gate == "confirm" else []
            verdict = gates(gate, program, seed, rivals)
        except MachineError:
            raise
        except VortexError as error:
            status = FAILED if isinstance(error, UserError) else QUARANTINED
            verdict = Verdict(gate, status, " ".join(str(error).split())[:500], time.perf_counter() - began)
    study.judge(proposal, verdict)
    return verdict


def confirm_seed(study: Study, proposal: Proposal) -> int:
    """Of a confirmation that somebody asked for alone."""
    return confirmations.own_seed(study, proposal.id)


class Worker:
    """told(turn, verdict or None): when a gate begins, and when it has spoken."""

    def __init__(
        self, study: Study, laboratory, *, environment: dict | None = None, told: Callable = lambda turn, verdict: None
    ):
        self.study, self.queue, self.told = study, Queue(study), told
        self.gates = Gates(laboratory, study.ledger, environment=environment)
        self.name = this_worker()

    def step(self) -> Turn | None:
        """One gate of one proposal; None when nobody waits."""
        turn = self.queue.take(self.name)
        if turn is None:
            return None
        self.told(turn, None)
        with contextlib.suppress(UserError):  # said when it is judged
            self.gates.laboratory.expect([self.study.program(turn.proposal)])
        try:
            with renewing(self.study, turn.proposal, self.name):
                seed = confirm_seed(self.study, turn.proposal) if turn.gate == "confirm" else 0
                verdict = judge(self.study, self.gates, turn.proposal, turn.gate, seed)
        finally:
            self.study.give_back(turn.proposal, self.name)
        self.told(turn, verdict)
        return turn

    def run(self, idle: float = float("inf"), stop: threading.Event | None = None) -> int:
        """Works until nothing has come for `idle` seconds, or `stop`; how many gates."""
        done, last, stop = 0, time.monotonic(), stop or threading.Event()
        while not stop.is_set():
            if self.step():
                done, last = done + 1, time.monotonic()
            elif time.monotonic() - last >= idle:
                break
            else:
                stop.wait(min(LOOK_SECONDS, idle))
        return done


@contextlib.contextmanager
def renewing(study: Study, proposal: Proposal, worker: str) -> Iterator[None]:
    """The lease of who is at the proposal does not run out meanwhile."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE_SECONDS / 3):
            with contextlib.suppress(MachineError):  # a busy file: there is time for another try
                study.renew(proposal, worker)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def laboratory_of(study: Study, progress: Callable = lambda what, done, of: None):
    """Where the flows of a study are measured, by its settings."""
    from .laboratory import Laboratory, Workload
    from .null import NullLaboratory

    workload = Workload(**study.settings["workload"])
    if study.settings.get("evaluator") == "replay":
        from .replay import ReplayLaboratory

        return ReplayLaboratory(workload, progress)
    return NullLaboratory(workload) if study.settings.get("evaluator") == "null" else Laboratory(workload, progress)


# Presence


@contextlib.contextmanager
def present(study: Study, name: str = "") -> Iterator[None]:
    """Says in the ledger that a worker (this process) is here, from before it loads a model, and how it ended."""
    name = name or this_worker()
    if name not in at_work(study):
        study.ledger.add_event("worker", study.name, {"state": "began"}, actor=name)
    try:
        yield
    except BaseException as error:
        study.ledger.add_event(
            "worker",
            study.name,
            {"state": "ended", "why": " ".join(f"{error or type(error).__name__}".split())[:500]},
            actor=name,
        )
        raise
    study.ledger.add_event("worker", study.name, {"state": "ended", "why": ""}, actor=name)


def at_work(study: Study) -> list[str]:
    """Workers of the study that are alive; of other hosts those that began within a day and have not said that they ended."""
    here, yesterday = (
        f"{socket.gethostname()}:",
        datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1),
    )
    return [
        name
        for name, event in _latest(study).items()
        if event["body"]["state"] == "began"
        and is_alive(name)
        and (name.startswith(here) or datetime.datetime.fromisoformat(event["at"]) > yesterday)
    ]


def last_failure(study: Study) -> str:
    """Why the worker that ended last did so; "" when it was told to."""
    ended = [event for event in _latest(study).values() if event["body"]["state"] == "ended"]
    return max(ended, key=lambda event: event["id"])["body"].get("why", "") if ended else ""


def _latest(study: Study) -> dict[str, dict]:
    return {event["actor"]: event for event in study.ledger.events(kind="worker", subject=study.name)}


_children: list[subprocess.Popen] = []


def start(study: Study, idle: float = IDLE_SECONDS) -> str | None:
    """Starts a worker that outlives this process, unless one is at work; its name, or None. Its words go to a log beside the ledger."""
    for child in list(_children):
        if child.poll() is not None:
            _children.remove(child)
    path = study.ledger.path.absolute()
    with open(f"{path}.worker-start", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if at_work(study):
            return None
        command = [
            sys.executable,
            "-m",
            "vortex_attention",
            "study",
            "work",
            "--study",
            study.name,
            "--ledger",
            str(path),
            "--idle",
            str(idle),
        ]
        with open(log_of(path), "a") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
            )
        _children.append(child)
        name = f"{socket.gethostname()}:{child.pid}:{_began(child.pid)}"
        study.ledger.add_event("worker", study.name, {"state": "began"}, actor=name)
        return name


def log_of(ledger: Path) -> Path:
    return ledger.with_name(f"{ledger.name}.worker.log")
