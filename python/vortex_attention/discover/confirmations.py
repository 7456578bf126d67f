"""The confirmations of a study as they lie in its ledger: which flows are confirmed together, what was measured, what it says together, and which
flows the one that is confirmed next is timed beside. What may be claimed of them is claims.py's.

A cohort is flows that are confirmed together: it is in the ledger before any of them is measured, and all answer the same new items, which its
number fixes. So items are prefilled once for all, and nothing that was seen on them chose who is measured on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from .. import _core
from ..ledger import canonical_json
from ..ledger.store import now
from . import claims
from .claims import Confirmed, Sample
from .study import PASSED, Proposal, Study

COHORT = "cohort"  # kind of the ledger's event


@dataclass(frozen=True)
class Cohort:
    """proposals: in the order in which they are measured; seed: of items and blocks."""

    proposals: tuple[int, ...]
    seed: int


def cohorts(study: Study) -> list[Cohort]:
    events = study.ledger.events(kind=COHORT, subject=study.name)
    return [
        Cohort(tuple(event["body"]["proposals"]), cohort_seed(study, number)) for number, event in enumerate(events)
    ]


def cohort(study: Study, choose: Callable[[], list[int]], actor: str) -> Cohort | None:
    """The latest, when some of it is not measured yet; else one of what `choose` names now. None when that is nobody. Of several processes that
    choose at once the first is followed by all."""
    known = cohorts(study)
    if known and not _is_measured(study, known[-1]):
        return known[-1]
    chosen = choose()
    with study.ledger.write() as connection:
        if chosen and len(cohorts(study)) == len(known):
            connection.execute(
                "INSERT INTO event (at, kind, subject, actor, body) VALUES (?, ?, ?, ?, ?)",
                (now(), COHORT, study.name, actor, canonical_json({"proposals": chosen})),
            )
    after = cohorts(study)
    return after[-1] if len(after) > len(known) else None


def next_seed(study: Study) -> int:
    """Of the cohort that is confirmed next, whatever is found until then."""
    known = cohorts(study)
    return known[-1].seed if known and not _is_measured(study, known[-1]) else cohort_seed(study, len(known))


def _is_measured(study: Study, one: Cohort) -> bool:
    verdicts = study.verdicts()
    return all("confirm" in verdicts.get(id, {}) for id in one.proposals)


def cohort_seed(study: Study, number: int) -> int:
    return own_seed(study, f"cohort {number}")


def own_seed(study: Study, what: str | int) -> int:
    """Of items and blocks that are nobody else's: no study's gates and no other confirmation have it."""
    text = f"confirm {study.name} {study.settings.get('seed', 0)} {what}"
    return (1 << 48) + int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


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
        gains, ratios = study.gains(verdict.run), study.log_ratios(verdict.run)
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
    programs = (study.readable(by_id[sample.proposal]) for sample in others)
    return [program for program in programs if program is not None]
