"""The confirmations of a study as they lie in its ledger: what they measured, what they say together, and which flows the one that is confirmed
next is timed beside. What may be claimed of them is claims.py's.
"""

from __future__ import annotations

from .. import _core
from . import claims
from .claims import Confirmed, Sample
from .study import PASSED, Proposal, Study


def ready_of(study: Study) -> set[int]:
    """The proposals that are the ready flows, which others are to beat. Rounds are the campaign's, so nobody else can be one."""
    return {proposal.id for proposal in study.proposals() if proposal.round == 1 and proposal.author == "ready"}


def samples_of(study: Study) -> list[Sample]:
    """What confirmations measured."""
    ready, found = ready_of(study), []
    hashes = {proposal.flow_hash: proposal.id for proposal in reversed(study.proposals())}  # the first that means it
    for id, gates in study.verdicts().items():
        verdict = gates.get("confirm")
        if verdict is None or verdict.status != PASSED or not verdict.run:
            continue
        gains, ratios = tuple(study.gains(verdict.run).values()), study.log_ratios(verdict.run)
        if len(gains) > 1 and ratios:  # else its run was taken back
            beside = {hashes[flow]: logs for flow, logs in study.beside(verdict.run).items() if flow in hashes}
            found.append(Sample(id, gains, ratios, id in ready, beside))
    return found


def confirmed(study: Study) -> list[Confirmed]:
    """The study's confirmations, the fastest first, tested together."""
    return claims.confirmed(samples_of(study))


def rivals_of(study: Study, proposal: Proposal) -> list[_core.Program]:
    """What a flow that is confirmed now is timed beside: the ready flows that it has to beat, as far as is known; a ready flow beside the found
    ones that are accurate, which have to beat it."""
    samples = samples_of(study)
    accurate = {one.proposal for one in claims.confirmed(samples) if one.accurate}
    others = claims.to_beat(samples)
    if proposal.id in ready_of(study):
        others = [sample for sample in samples if not sample.ready and sample.proposal in accurate]
    by_id = {one.id: one for one in study.proposals()}
    return [study.program(by_id[sample.proposal]) for sample in others]
