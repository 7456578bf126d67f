"""The loop: ready flows first, then rounds of proposals through the gates, then confirmations of what looks best.

All state is in the study, so a campaign that was stopped, killed or started twice goes on from what is there. Each process of it works on
the proposals that nobody else is at work on, and waits for the others at the end of a round.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from scipy import stats

from .. import _core
from ..flows import load
from .agents import Agent
from .agents.built_in import BuiltIn
from .frontier import OUT, Point, frontier
from .gates import Gates
from .queue import CONFIRMATIONS
from .study import PASSED, Draft, Proposal, Study, this_worker
from .worker import Worker, confirm_seed, judge

READY = ("centroid", "quest", "mean_deviation", "sub_centroid", "slow_means", "bounding_volumes", "value_norm", "two_streams")
MARGIN = 0.10  # nat a token of the answer that a flow may lose and still count as accurate
WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Confirmed:
    """One confirmation. p_accurate: one-sided p-value of the test against losing MARGIN or more; accurate: after Holm at 5 % over all
    confirmations of the study."""

    proposal: int
    gain: float
    gain_low: float
    ratio: float
    p_accurate: float
    accurate: bool


Progress = Callable[[str, int, int], None]


class Campaign:
    def __init__(self, study: Study, laboratory, progress: Progress = lambda what, done, of: None, environment: dict | None = None,
                 agent: Agent | None = None):
        """agent: who proposes; the built-in one when None."""
        self.study, self.laboratory, self.progress, self.agent = study, laboratory, progress, agent
        self.gates = Gates(laboratory, study.ledger, environment=environment, progress=lambda what, done, of: self.progress(f"{self.at}: {what}", done, of))
        self.at = ""
        self.worker = this_worker()

    def run(self, rounds: int, variants: int, seed: int, ready: bool = True) -> None:
        """Rounds 1 (the ready flows, unless the search is from nothing) to `rounds` + 1. More rounds than a study has had go on from
        where it was."""
        agent = self.agent or BuiltIn(seed)
        if ready:
            self.study.propose("ready", [_ready(name) for name in READY], round=1)
            self._work("round 0", 1)
        for number in range(2, rounds + 2):
            if not any(proposal.round == number for proposal in self.study.proposals()):
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

    def confirm(self) -> list[Confirmed]:
        """Measures the frontier's flows on items and blocks of their own, the best one first and the frontier anew after each, at most
        CONFIRMATIONS a study, and tests them together. Asked again, it goes on from what is there."""
        by_id = {proposal.id: proposal for proposal in self.study.proposals()}
        while True:
            verdicts = self.study.verdicts()
            done = sum("confirm" in gates for gates in verdicts.values())
            left = [point for point in self.points() if point.state != OUT and point.p_accurate > 0.05 and "confirm" not in verdicts[int(point.key)]]
            self.progress("confirm", done, min(CONFIRMATIONS, done + len(left)))
            if not left or done >= CONFIRMATIONS:
                return self.confirmed()
            proposal = by_id[int(max(left, key=lambda point: (point.p_non_dominated, -int(point.key))).key)]
            self._judge(proposal, "confirm", self.study.program(proposal), seed=confirm_seed(self.study, proposal))

    def confirmed(self) -> list[Confirmed]:
        return confirmed(self.study)

    def _work(self, what: str, round: int) -> None:
        """Passes gates until every proposal of the round is done, by this process or another."""
        while True:
            mine = [proposal for proposal in self.study.proposals() if proposal.round == round]
            verdicts = self.study.verdicts()
            waiting = [proposal for proposal in mine if self.study.next_gate(verdicts.get(proposal.id, {})) is not None]
            self.progress(what, len(mine) - len(waiting), len(mine))
            if not waiting:
                return
            taken = self.study.take(self.worker, [proposal.id for proposal in waiting])
            if taken is None:
                time.sleep(WAIT_SECONDS)
                continue
            proposal, gate = taken
            try:
                self._judge(proposal, gate, self.study.program(proposal))
            finally:
                self.study.give_back(proposal, self.worker)

    def _judge(self, proposal: Proposal, gate: str, program: _core.Program, seed: int = 0) -> None:
        self.at = f"proposal {proposal.id}"
        judge(self.study, self.gates, proposal, gate, program, seed)


def confirmed(study: Study) -> list[Confirmed]:
    """The study's confirmations, the fastest first, tested together."""
    found = []
    for id, gates in study.verdicts().items():
        verdict = gates.get("confirm")
        if verdict is None or verdict.status != PASSED or not verdict.run:
            continue
        gains, ratios = list(study.gains(verdict.run).values()), study.log_ratios(verdict.run)
        if len(gains) < 2 or not ratios:  # its run was taken back
            continue
        p = float(stats.ttest_1samp(gains, -MARGIN, alternative="greater").pvalue)
        low = float(stats.t.interval(0.95, len(gains) - 1, sum(gains) / len(gains), stats.sem(gains))[0])
        found.append((id, sum(gains) / len(gains), low, sum(ratios) / len(ratios), p))
    ordered = sorted(found, key=lambda row: row[-1])
    accepted: set[int] = set()
    for rank, row in enumerate(ordered):  # Holm, 1979; as if all CONFIRMATIONS had been made, so that later ones take nothing back
        if row[-1] > 0.05 / (max(CONFIRMATIONS, len(ordered)) - rank):
            break
        accepted.add(row[0])
    return [Confirmed(id, gain, low, math.exp(log_ratio), p, id in accepted) for id, gain, low, log_ratio, p in sorted(found, key=lambda row: -row[3])]


def _ready(name: str) -> Draft:
    flow = load(name)
    return Draft(flow.program, flow.source, f"the ready flow {name}, to be beaten")
