"""The loop: ready flows first, then rounds of proposals through the gates, then confirmations of what looks best.

All state is in the study, so a campaign that was stopped, killed or started twice goes on from what is there. Each process of it works on
the proposals that nobody else is at work on, and waits for the others at the end of a round.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from .. import _core
from ..errors import UserError
from ..flows import load
from . import claims, confirmations
from .agents import Agent
from .agents.built_in import BuiltIn
from .claims import CONFIRMATIONS, MARGIN, Claim, Confirmed
from .confirmations import confirmed, ready_of, samples_of
from .frontier import Point, frontier
from .gates import Gates
from .queue import Queue
from .study import Draft, Proposal, Study, this_worker
from .worker import Worker, judge, renewing

READY = (
    "centroid",
    "quest",
    "mean_deviation",
    "sub_centroid",
    "slow_means",
    "bounding_volumes",
    "value_norm",
    "two_streams",
)
WAIT_SECONDS = 0.5

Progress = Callable[[str, int, int], None]


class Campaign:
    def __init__(
        self,
        study: Study,
        laboratory,
        progress: Progress = lambda what, done, of: None,
        environment: dict | None = None,
        agent: Agent | None = None,
    ):
        """agent: who proposes; the built-in one when None."""
        self.study, self.laboratory, self.progress, self.agent = study, laboratory, progress, agent
        self.gates = Gates(
            laboratory,
            study.ledger,
            environment=environment,
            progress=lambda what, done, of: self.progress(f"{self.at}: {what}", done, of),
        )
        self.at = ""
        self.worker = this_worker()
        self._expected: set[int] = set()  # proposals that the laboratory knows of

    def run(
        self,
        rounds: int,
        variants: int,
        seed: int,
        ready: bool = True,
        until: float = float("inf"),
        confirm: bool = True,
    ) -> None:
        """Rounds 1 (the ready flows, unless the search is from nothing), what others have proposed, and rounds 2 to `rounds` + 1. More rounds
        than a study has had go on from where it was. until: time.monotonic() after which no round is begun; confirm: whether confirmations will follow."""
        agent = self.agent or BuiltIn(seed)
        if ready:
            self.study.propose("ready", [_ready(name) for name in READY], round=1)
            self._work("round 0", 1)
        self._work("proposals", 0)  # what others have handed in: it is there to be built upon
        if confirm:
            self.laboratory.expect_confirmation(confirmations.next_seed(self.study))
        for number in range(2, rounds + 2):
            if not any(proposal.round == number for proposal in self.study.proposals()):
                if time.monotonic() > until:
                    return
                drafts = agent.drafts(self.study, self.points(), self.laboratory, number, variants)
                self.study.propose(agent.author, drafts, round=number)
            self._work(f"round {number - 1}", number)

    def work_outside(self) -> None:
        """What other agents have proposed outside a round, and what they have submitted of any."""
        self._work("proposals", 0)
        worker = Worker(self.study, self.laboratory, environment=self.gates.environment)
        while worker.step():
            self.progress("submitted", 0, len(worker.queue.waiting()))

    def points(self) -> list[Point]:
        return frontier(self.study.measured(), margin=MARGIN)

    def confirm(self, until: float = float("inf"), most: int = CONFIRMATIONS) -> list[Confirmed]:
        """Measures the ready flows to beat and flows of the frontier, a cohort on items and blocks of its own, and tests all that were confirmed
        together. Asked again, it goes on from what is there. until: time.monotonic() after which no flow is begun; most: of flows that the
        study then has confirmed."""
        by_id = {proposal.id: proposal for proposal in self.study.proposals()}
        while (cohort := confirmations.cohort(self.study, lambda: self._to_confirm(most), self.worker)) is not None:
            done = [id for id, gates in self.study.verdicts().items() if "confirm" in gates]
            left = [id for id in cohort.proposals if id not in done]
            self.progress("confirm", len(done), len(done) + len(left))
            if time.monotonic() > until:
                break
            first = [id for id in left if id in ready_of(self.study)]  # the others are timed beside them
            tries = (self._take_confirmation(by_id[id], cohort.seed) for id in first or left)
            taken = next((one for one in tries if one is not False), False)
            if taken is None:  # agents have asked for all that there may be
                break
            if not taken:  # another process of this campaign is at it
                time.sleep(WAIT_SECONDS)
        return self.confirmed()

    def _take_confirmation(self, proposal: Proposal, seed: int) -> bool | None:
        """Measures it, unless somebody else is at it or has; None when it may not be."""
        taken = Queue(self.study).take_confirmation(proposal, self.worker)
        if taken:
            try:
                self._judge(proposal, "confirm", seed)
            finally:
                self.study.give_back(proposal, self.worker)
        return taken

    def _to_confirm(self, most: int) -> list[int]:
        asked = Queue(self.study).confirmations()
        points = frontier(self.study.measured(), margin=MARGIN, volume=False)
        return claims.to_confirm(points, asked, ready_of(self.study), most)

    def confirmed(self) -> list[Confirmed]:
        return confirmed(self.study)

    def claims(self) -> list[Claim]:
        """Which flows beat the ready ones, by confirmations alone."""
        return claims.claims(samples_of(self.study))

    def _work(self, what: str, round: int) -> None:
        """Passes gates until every proposal of the round is done, by this process or another."""
        while True:
            mine = [proposal for proposal in self.study.proposals() if proposal.round == round]
            verdicts = self.study.verdicts()
            waiting = [proposal for proposal in mine if self.study.next_gate(verdicts.get(proposal.id, {})) is not None]
            self.progress(what, len(mine) - len(waiting), len(mine))
            if not waiting:
                return
            self.laboratory.expect(self._flows(waiting))
            taken = self.study.take(self.worker, [proposal.id for proposal in waiting])
            if taken is None:
                time.sleep(WAIT_SECONDS)
                continue
            proposal, gate = taken
            try:
                self._judge(proposal, gate)
            finally:
                self.study.give_back(proposal, self.worker)

    def _flows(self, proposals: list[Proposal]) -> Iterator[_core.Program]:
        """Of each that still reads."""
        for proposal in proposals:
            if proposal.id not in self._expected:
                self._expected.add(proposal.id)
                if program := self.study.readable(proposal):
                    yield program

    def _judge(self, proposal: Proposal, gate: str, seed: int = 0) -> None:
        self.at = f"proposal {proposal.id}"
        with renewing(self.study, proposal, self.worker):
            judge(self.study, self.gates, proposal, gate, seed)


def _ready(name: str) -> Draft:
    flow = load(name)
    return Draft(flow.program, flow.source, f"the ready flow {name}, to be beaten")
