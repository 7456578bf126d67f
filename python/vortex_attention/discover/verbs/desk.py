"""Where verbs work: a ledger, the study that is meant, who asks, and what is shared by several of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import UserError
from ...ledger import Ledger
from ...measure.statistics import Interval
from .. import worker
from ..claims import MARGIN
from ..confirmations import confirmed
from ..frontier import Point, frontier
from ..intake import draft
from ..queue import CONFIRMATIONS, Queue, status_of, twin_of
from ..study import FAILED, Draft, Proposal, Study, Verdict
from .args import text_of
from .records import Estimate, Gate, Row, Standing, State

LONGEST_NAME = 64  # characters of an agent


@dataclass
class Desk:
    """workers: start one that outlives this process when something is submitted and none is at work."""

    ledger: Ledger
    study_name: str = "first"
    agent: str = "user"
    workers: bool = True
    idle: float = worker.IDLE_SECONDS
    progress: Callable[[float, float, str], None] = lambda done, of, what: None

    def study(self) -> Study:
        return Study.open(self.ledger, text_of(self.study_name))

    def queue(self) -> Queue:
        return Queue(self.study())

    def author(self, agent: str | None) -> str:
        name = (agent or self.agent).strip()
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise UserError(
                "agent",
                f"a name of 1 to {LONGEST_NAME} printable characters",
                repr(name[:80]),
                "name who is at work, the same in every call",
            )
        return name

    def drafted(
        self,
        flow: str,
        hypothesis: str = "",
        parents: list[int] = (),
        settings: dict | None = None,
        name: str | None = None,
    ) -> Draft:
        """A flow by its text, or by the name of a ready one; its own file is traced in the sandbox."""
        from ...flows import load, names

        if flow.strip() in names():
            try:
                loaded = load(flow.strip(), **(settings or {}))
            except UserError as error:
                return Draft(None, flow, hypothesis, tuple(parents), refused=str(error))
            return Draft(
                loaded.program,
                loaded.source,
                hypothesis,
                tuple(parents),
                handed_in={"settings": settings} if settings else {},
            )
        return draft(flow, hypothesis, parents=tuple(parents), settings=settings, name=name)

    def attend(self, study: Study) -> bool:
        """Somebody is at work on what was submitted, where this desk may start them; whether it has started one."""
        return self.workers and not worker.at_work(study) and worker.start(study, self.idle) is not None

    def points(self, study: Study) -> list[Point]:
        return frontier(study.measured(), margin=MARGIN)

    # Records that several verbs answer with

    def state(self, proposal: int) -> State:
        study = self.study()
        queue = Queue(study)
        parents = study.proposal(proposal).parents
        gates = gates_of(study, proposal)
        asked = [one for one in queue.of(proposal) if not one.withdrawn]
        waiting, busy = queue.places()
        position = waiting.index(proposal) if proposal in waiting else None
        status = status_of(gates)
        if proposal in busy or position is not None:
            job = "running" if proposal in busy else "queued"
        else:
            job = "done" if asked or (gates and status != "passed") or "bench" in gates else "idle"
        workers = worker.at_work(study)
        note = ""
        if job == "queued" and not workers:
            failure = worker.last_failure(study)
            note = "nobody is at work on this study" + (f"; the last worker ended: {failure}" if failure else "")
        return State(
            proposal,
            job,
            status,
            records_of(gates),
            asked[-1].until if asked else None,
            position,
            workers,
            note,
            _next(proposal, job, status, twin_of(gates), gates, parents, bool(note)),
        )

    def standings(self, study: Study) -> list[Standing]:
        by_id, verdicts = {one.id: one for one in study.proposals()}, study.verdicts()
        accurate = {one.proposal: one.accurate for one in confirmed(study)}
        found = []
        for point in self.points(study):
            proposal = by_id[int(point.key)]
            run = next(
                (
                    gates[name].run
                    for gates in (verdicts[proposal.id],)
                    for name in ("confirm", "gate")
                    if name in gates
                ),
                None,
            )
            blocks = next(
                (
                    gates[name].run
                    for gates in (verdicts[proposal.id],)
                    for name in ("confirm", "bench")
                    if name in gates
                ),
                None,
            )
            found.append(
                Standing(
                    proposal.id,
                    self.name_of(study, proposal),
                    proposal.author,
                    proposal.flow_hash,
                    Estimate(point.gain, *point.gain_interval, count=len(study.gains(run)) if run else 0),
                    Estimate(point.ratio, *point.ratio_interval, count=len(study.log_ratios(blocks)) if blocks else 0),
                    point.p_non_dominated,
                    point.p_accurate,
                    point.hypervolume_gain,
                    point.state,
                    [int(key) for key in point.twins],
                    accurate.get(proposal.id),
                )
            )
        return found

    def confirmations_left(self, study: Study) -> int:
        return max(0, CONFIRMATIONS - len(Queue(study).confirmations()))

    def name_of(self, study: Study, proposal: Proposal) -> str:
        rows = self.ledger.rows(
            "SELECT f.name FROM flow f JOIN proposal p ON p.flow_hash = f.hash AND p.ir_version = f.ir_version WHERE p.id = ?",
            (proposal.id,),
        )
        return rows[0]["name"] if rows else ""

    def row(self, study: Study, proposal: Proposal, gates: dict[str, Verdict]) -> Row:
        last = list(gates.values())[-1] if gates else None
        return Row(
            proposal.id,
            proposal.at,
            proposal.author,
            self.name_of(study, proposal),
            proposal.flow_hash,
            status_of(gates),
            last.gate if last else None,
            last.reason if last else "",
            proposal.hypothesis,
            list(proposal.parents),
            twin_of(gates),
        )


def gates_of(study: Study, proposal: int) -> dict[str, Verdict]:
    return study.verdicts(proposal).get(proposal, {})


def records_of(gates: dict[str, Verdict]) -> list[Gate]:
    return [Gate(one.gate, one.status, one.reason, one.seconds, one.run, one.facts) for one in gates.values()]


def estimate_of(interval: Interval) -> Estimate:
    return Estimate(interval.center, interval.low, interval.high, interval.count)


def _next(
    proposal: int, job: str, status: str, twin: int | None, gates: dict, parents: tuple[int, ...], stuck: bool
) -> list[str]:
    if twin is not None:
        return [f"result {twin}: it means the same and answers for this one", "propose something else"]
    if status == FAILED and not any(one.run for one in gates.values()):
        return [f"explain-error --proposal {proposal}", "propose it again, mended"]
    if status != "passed" and job == "done":
        return [
            f"result {proposal}: which gate said no, and why",
            f"propose a change of it, with {proposal} as its parent",
        ]
    if job == "idle":
        return [f"submit {proposal}"]
    if stuck:
        return ["start one: vortex study work", f"wait {proposal}"]
    if job in ("queued", "running"):
        return [f"wait {proposal}"]
    return [
        f"result {proposal}",
        "frontier",
        *([f"compare {proposal}: beside its parent {parents[0]}"] if parents else []),
    ]
