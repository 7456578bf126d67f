"""`vortex discover`: search for flows, unattended: propose, filter, measure, keep the frontier, confirm."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vortex_attention.cli import options


def discover(
    study: Annotated[str, typer.Option(help="The study of the ledger to begin or to go on with.")] = "first",
    rounds: Annotated[int, typer.Option(min=0, max=10_000, help="Rounds of proposals after the ready flows; those that were made count.")] = 5,
    variants: Annotated[int, typer.Option(min=1, max=64, help="Proposals a round.")] = 4,
    seed: Annotated[int, typer.Option(help="Fixes proposals and items.")] = 1,
    model: options.Model = "smollm2",
    items: Annotated[int, typer.Option(min=4, max=10_000, help="Needles of the gate.")] = 24,
    length: options.Length = 4096,
    batch: options.Batch = 8,
    context: Annotated[int, typer.Option(min=64, help="Tokens of a sequence while speed is measured.")] = 4096,
    confirm: Annotated[bool, typer.Option(help="Measure the best on items that no gate has shown, at most eight in a study.")] = True,
    evaluator: Annotated[str, typer.Option(help="real, or null: numbers from a flow's hash, to try the loop.")] = "real",
    threads: options.Threads = 0,
    snapshots: options.Snapshots = 8.0,
    agent: Annotated[str, typer.Option(help="Who proposes: built-in, random, knobs.")] = "built-in",
    knobs: Annotated[str, typer.Option(help="How settings and numbers are searched: edits, or optuna's tpe or nsga2.")] = "edits",
    start: Annotated[str, typer.Option(help="What a study begins with: ready (flows), or nothing.")] = "ready",
    ledger: options.Ledger = None,
    json: options.Json = False,
) -> None:
    """Search for flows: an agent proposes, gates filter and measure, the frontier is kept and confirmed."""
    from vortex_attention.cli import show
    from vortex_attention.cli.study_progress import StudyReporter
    from vortex_attention.discover import agents
    from vortex_attention.discover.campaign import Campaign
    from vortex_attention.discover.laboratory import Laboratory, Workload
    from vortex_attention.discover.null import NullLaboratory
    from vortex_attention.discover.study import Study
    from vortex_attention.errors import UserError
    from vortex_attention.ledger import Ledger

    if ledger == "none":
        raise UserError("--ledger", "a file: a study lives in a ledger", "none", "leave it out, or name a file")
    if evaluator not in ("real", "null"):
        raise UserError("--evaluator", "real or null", repr(evaluator), "leave it out")
    if start not in ("ready", "nothing"):
        raise UserError("--start", "ready or nothing", repr(start), "leave it out for the ready flows")
    proposer = agents.make(agent, seed, sampler=knobs)
    workload = Workload(model=model, length=length, gate_items=items, batch=batch, context=context, seed=seed, threads=threads)
    settings = {"seed": seed, "variants": variants, "evaluator": evaluator, "workload": workload.to_json()}
    settings |= {name: value for name, value, usual in (("agent", agent, "built-in"), ("knobs", knobs, "edits"), ("start", start, "ready")) if value != usual}
    with Ledger.open(ledger) as opened, StudyReporter(rounds) as reporter:
        opened_study = Study.open(opened, study, settings)
        laboratory = NullLaboratory(workload) if evaluator == "null" else Laboratory(workload, reporter, snapshots=snapshots)
        campaign = Campaign(opened_study, laboratory, reporter, agent=proposer)
        campaign.run(rounds, variants, seed, ready=start == "ready")
        campaign.work_outside()
        confirmed = campaign.confirm() if confirm else campaign.confirmed()
        points, claims = campaign.points(), campaign.claims()
        names = {proposal.id: proposal for proposal in opened_study.proposals()}
        verdicts = opened_study.verdicts()
    show.print_study(study, points, confirmed, names, verdicts, as_json=json, claims=claims)
