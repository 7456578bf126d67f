"""Evaluation on several processes or machines by Ray, the ledger at the head.

A worker is a Ray actor with a laboratory of its own; it sees programs and gives numbers. Proposals, gates, verdicts and the ledger stay with
the process that was started (the head), one thread a worker. When a worker dies its gate gives no verdict and is passed again, by another worker or by the one that
takes its place; LOST of them in a row end the campaign, which goes on when it is started again. Times are taken by one worker of a machine at a time.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from .. import _core
from ..errors import MachineError, UserError
from ..ledger import Ledger
from . import device
from .campaign import WAIT_SECONDS, Campaign
from .gates import Gates
from .study import Study
from .worker import judge, laboratory_of, renewing

LOST = 5  # workers in a row that died before they gave a verdict


class WorkerLost(MachineError):
    """A worker is gone; what it was at was not measured."""


def _ray():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            "--ray", "ray for workers in other processes", "it is not installed", "pip install 'vortex-attention[ray]'"
        ) from None
    return ray


class Hands:
    """What runs in an actor: a laboratory, asked for one batch or one round after another, so that a gate that stops early costs no more."""

    def __init__(self, make: Callable):
        self.make, self.laboratory = make, None
        self.open: dict[int, Iterator] = {}
        self.timed: set[int] = set()
        self.count = 0

    def facts(self) -> dict:
        """Asked first: makes the laboratory, so that what it refuses is said to the head."""
        self.laboratory = self.laboratory or self.make()
        return {name: getattr(self.laboratory, name) for name in ("workload", "geometry", "model", "numerics")} | {
            "environment": getattr(self.laboratory, "environment", None),
            "process": os.getpid(),
        }

    def ask(self, verb: str, program: str | None, *arguments):
        given = [] if program is None else [_program(program)]
        with device.held("screen", self.laboratory):
            return getattr(self.laboratory, verb)(*given, *arguments)

    def begin(self, verb: str, program: str, *arguments) -> int:
        self.count += 1
        if verb == "speed":  # a rival comes as text, too
            arguments = (*arguments[:2], *map(_program, arguments[2:]))
            self.timed.add(self.count)
        self.open[self.count] = iter(getattr(self.laboratory, verb)(_program(program), *arguments))
        return self.count

    def next(self, number: int):
        """The next batch or round; None when there is no more."""
        with device.held("bench" if number in self.timed else "gate", self.laboratory):
            return next(self.open[number], None)

    def end(self, number: int) -> None:
        self.timed.discard(number)
        getattr(self.open.pop(number, None), "close", lambda: None)()


def _program(text: str) -> _core.Program:
    program = _core.parse_flow(text)
    program.verify()
    return program


class Remote:
    """The verbs of a laboratory, each asked of an actor. WorkerLost when that is gone; the next call has another in its place."""

    timing = False  # the actor's machine is held by the actor, whatever gate it is and whoever asks

    def __init__(self, cluster: Cluster):
        self.cluster, self.actor, self.seen = cluster, None, {}
        for attempt in range(LOST):  # a machine that is busy may fail to start a process in Ray's time
            try:
                return self._facts()
            except WorkerLost:
                if attempt + 1 == LOST:
                    raise

    def _facts(self) -> None:
        self.actor = self.cluster.actor()
        self.seen = self._get(self.actor.facts.remote())

    @property
    def process(self) -> int:
        return self.seen["process"]

    workload = property(lambda self: self.seen["workload"])
    geometry = property(lambda self: self.seen["geometry"])
    model = property(lambda self: self.seen["model"])
    numerics = property(lambda self: self.seen["numerics"])
    environment = property(lambda self: self.seen["environment"])

    def price(self, program: _core.Program) -> dict:
        return self._ask("price", program)

    def behaviour(self, program: _core.Program) -> str:
        return self._ask("behaviour", program)

    def expect(self, programs) -> None:
        """A worker compiles what it is given when it is given it."""

    def expect_confirmation(self, seed: int) -> None:
        """A worker makes questions when they are asked for."""

    def require_need(self, least: float) -> None:
        self._ask("require_need", None, least)

    def read(self, block):
        return self._call("ask", "read", None, block)

    def accuracy(self, program: _core.Program, part: str, seed: int = 0) -> Iterator:
        return self._each("accuracy", program, part, seed)

    def speed(self, program: _core.Program, rounds: int, seed: int = 0, rival: _core.Program | None = None) -> Iterator:
        return self._each("speed", program, rounds, seed, *([rival.text()] if rival else []))

    def _ask(self, verb: str, program: _core.Program | None, *arguments):
        return self._call("ask", verb, None if program is None else program.text(), *arguments)

    def _each(self, verb: str, program: _core.Program, *arguments) -> Iterator:
        number = self._call("begin", verb, program.text(), *arguments)
        actor = self.actor
        try:
            while (found := self._call("next", number)) is not None:
                yield found
        finally:
            if self.actor is actor:
                actor.end.remote(number)

    def _call(self, method: str, *arguments):
        if self.actor is None:
            self._facts()
        return self._get(getattr(self.actor, method).remote(*arguments))

    def _get(self, reference):
        ray = self.cluster.ray
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # what the laboratory said
        except ray.exceptions.RayError as error:
            self.actor = None
            self.cluster.lost += 1
            why = f"{type(error).__name__}: {' '.join(str(error).split())[-200:]}"
        raise WorkerLost(
            "ray",
            "a worker that answers",
            f"it is gone ({why})",
            "the study goes on from here when it is started again",
        )


class Cluster:
    """make: what gives a worker its laboratory; it is sent to the workers. address: of a Ray cluster that is running, "" for one of this
    process. Close it, or use it with `with`."""

    def __init__(self, make: Callable, workers: int, address: str = "", cpus: float = 1.0):
        self.ray = _ray()
        self.lost = 0
        paths = {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
        local = (
            {}
            if address
            else {"num_cpus": max(1, workers), "include_dashboard": False, "object_store_memory": 100 << 20}
        )
        try:
            self.ray.init(
                address=address or None,
                runtime_env={"env_vars": paths},
                log_to_driver=False,
                logging_level="ERROR",
                **local,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise MachineError("ray", f"a cluster at {address}" if address else "a cluster on this machine", " ".join(str(error).split())[:200],
                               "start it with ray start --head, or leave --ray-address out") from None  # fmt: skip
        # An actor of fewer CPUs than Ray has left would wait for ever; how many threads one uses is its laboratory's setting.
        self._class, self._make, self._cpus = self.ray.remote(max_restarts=0)(Hands), make, cpus
        try:
            self.hands = [Remote(self) for _ in range(workers)]
        except BaseException:
            self.close()
            raise

    def actor(self):
        return self._class.options(num_cpus=self._cpus).remote(self._make)

    def close(self) -> None:
        self.ray.shutdown()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class ClusterCampaign(Campaign):
    """A campaign whose gates are passed by the workers of a cluster, as many at once."""

    def __init__(self, study: Study, cluster: Cluster, *arguments, **named):
        super().__init__(study, cluster.hands[0], *arguments, **named)
        self.cluster = cluster
        self._busy: set[int] = set()
        self._lock = threading.Lock()

    def _work(self, what: str, round: int) -> None:
        failures: list[BaseException] = []
        threads = [
            threading.Thread(target=self._serve, args=(hand, round, failures), daemon=True)
            for hand in self.cluster.hands
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            done, of = self._done(round)
            self.progress(what, done, of)
            threads[0].join(WAIT_SECONDS)
            for thread in threads[1:]:
                thread.join(0.01)
        if failures:
            raise failures[0]
        self.progress(what, *self._done(round))

    def _done(self, round: int) -> tuple[int, int]:
        verdicts = self.study.verdicts()
        mine = [proposal for proposal in self.study.proposals() if proposal.round == round]
        return sum(self.study.next_gate(verdicts.get(proposal.id, {})) is None for proposal in mine), len(mine)

    def _serve(self, hand: Remote, round: int, failures: list[BaseException]) -> None:
        """What one thread does: gates of the round's proposals, by one worker, until all are done or something fails."""
        lost = 0
        try:
            with Ledger.open(self.study.ledger.path) as ledger:
                study = Study(ledger, self.study.name, self.study.settings)
                gates = Gates(hand, ledger, environment=self.gates.environment)
                while not failures:
                    waiting, taken = self._take(study, round)
                    if not waiting:
                        return
                    if taken is None:
                        time.sleep(WAIT_SECONDS)
                        continue
                    proposal, gate = taken
                    try:
                        with renewing(study, proposal, self.worker):
                            judge(study, gates, proposal, gate)
                        lost = 0
                    except WorkerLost:
                        lost += 1
                        if lost >= LOST:
                            raise
                    finally:
                        study.give_back(proposal, self.worker)
                        with self._lock:
                            self._busy.discard(proposal.id)
        except BaseException as error:  # told by the thread that waits for this one
            failures.append(error)

    def _take(self, study: Study, round: int):
        """Proposals that are not done, and one of them with its gate that no thread of ours and no other process is at."""
        with self._lock:
            verdicts = study.verdicts()
            waiting = [proposal.id for proposal in study.proposals()
                       if proposal.round == round and study.next_gate(verdicts.get(proposal.id, {})) is not None]  # fmt: skip
            free = [id for id in waiting if id not in self._busy]
            taken = study.take(self.worker, free) if free else None
            if taken is not None:
                self._busy.add(taken[0].id)
            return waiting, taken


def cluster_of(study: Study, workers: int, address: str = "") -> Cluster:
    """Workers with the laboratory that the settings of the study say."""
    settings = dict(study.settings)

    def make():
        return laboratory_of(_Settings(settings))

    return Cluster(make, workers, address)


class _Settings:
    """As much of a study as a laboratory is made from."""

    def __init__(self, settings: dict):
        self.settings = settings
