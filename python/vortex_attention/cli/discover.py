"""`vortex discover`: search for flows, unattended: propose, filter, measure, keep the frontier, confirm."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from vortex_attention.cli import options


def discover(
    study: Annotated[str, typer.Option(help="The study of the ledger to begin or to go on with.")] = "first",
    rounds: Annotated[
        int,
        typer.Option(min=0, max=10_000, help="Rounds of proposals after the ready flows; those that were made count."),
    ] = 5,
    seconds: Annotated[
        float, typer.Option(min=0, help="Begin no round after so many; what has begun is finished. 0: no limit.")
    ] = 0.0,
    variants: Annotated[int, typer.Option(min=1, max=64, help="Proposals a round.")] = 4,
    seed: Annotated[int, typer.Option(help="Fixes proposals and items.")] = 1,
    model: options.Model = "smollm2",
    items: Annotated[int, typer.Option(min=4, max=10_000, help="Items of the gate.")] = 24,
    length: options.Length = 4096,
    batch: options.Batch = 8,
    context: Annotated[int, typer.Option(min=64, help="Tokens of a sequence while speed is measured.")] = 4096,
    confirm: Annotated[
        bool, typer.Option(help="Measure the best on items that no gate has shown, at most eight in a study.")
    ] = True,
    confirm_seconds: Annotated[
        float, typer.Option(min=0, help="Confirm no further flow after so many, from the start on. 0: no limit.")
    ] = 0.0,
    confirmations: Annotated[
        int, typer.Option(min=1, max=8, help="Flows that are confirmed, with those that were before.")
    ] = 8,
    confirm_items: Annotated[
        int, typer.Option(min=4, max=10_000, help="Items of a confirmation, which nobody has seen.")
    ] = 48,
    confirm_tasks: options.ConfirmTasks = "",
    confirm_lengths: options.ConfirmLengths = "",
    suite: options.StudySuite = "needle",
    tasks: options.StudyTasks = "",
    device: options.Device = "cpu",
    evaluator: Annotated[
        str, typer.Option(help="real; replay: on recorded attention, no model; null: numbers from a flow's hash.")
    ] = "real",
    threads: options.Threads = 0,
    snapshots: options.StudySnapshots = None,
    agent: Annotated[
        str, typer.Option(help="Who proposes: built-in, random, knobs, or openai: a language model.")
    ] = "built-in",
    knobs: Annotated[
        str, typer.Option(help="How settings and numbers are searched: edits, or optuna's tpe or nsga2.")
    ] = "edits",
    base_url: Annotated[str, typer.Option(help="Of --agent openai: any OpenAI-compatible endpoint.")] = "",
    model_name: Annotated[str, typer.Option(help="Of --agent openai: the endpoint's name of the model.")] = "",
    api_key_env: Annotated[
        str, typer.Option(help="Of --agent openai: the variable of the environment that holds the key.")
    ] = "",
    dollars: Annotated[
        str, typer.Option(help="Of --agent openai: price of a million tokens asked and answered, as 2.5,10.")
    ] = "0,0",
    most_tokens: Annotated[
        int, typer.Option(min=0, help="Of --agent openai: that the study may spend; 0: any number.")
    ] = 0,
    start: Annotated[str, typer.Option(help="What a study begins with: ready (flows), or nothing.")] = "ready",
    ray: Annotated[int, typer.Option(min=0, max=1024, help="Workers on Ray that pass the gates; 0: this process.")] = 0,
    ray_address: Annotated[
        str, typer.Option(help="Of a Ray cluster that is running; without it one is started here.")
    ] = "",
    ledger: options.LedgerFile = None,
    json: options.Json = False,
) -> None:
    """Search for flows: an agent proposes, gates filter and measure, the frontier is kept and confirmed."""
    import contextlib
    import math
    import time

    from vortex_attention.cli import show
    from vortex_attention.cli.study_progress import StudyReporter
    from vortex_attention.discover import agents
    from vortex_attention.discover.campaign import Campaign
    from vortex_attention.discover.laboratory import Laboratory, workload_of
    from vortex_attention.discover.study import Study
    from vortex_attention.discover.worker import laboratory_of
    from vortex_attention.errors import UserError
    from vortex_attention.ledger import Ledger
    from vortex_attention.models import place_of

    began = time.monotonic()
    if evaluator not in ("real", "replay", "null"):
        raise UserError("--evaluator", "real, replay or null", repr(evaluator), "leave it out")
    if start not in ("ready", "nothing"):
        raise UserError("--start", "ready or nothing", repr(start), "leave it out for the ready flows")
    if base_url and agent != "openai":
        raise UserError(
            "--base-url",
            "an agent that asks an endpoint",
            f"--agent {agent}",
            "say --agent openai, or leave --base-url out",
        )
    endpoint = {"base_url": base_url, "model_name": model_name, "api_key_env": api_key_env, "most_tokens": most_tokens}
    proposer = agents.make(agent, seed, sampler=knobs, **endpoint, dollars=agents.prices(dollars))
    workload = workload_of(
        evaluator,
        model=place_of(model),
        length=length,
        gate_items=items,
        confirm_items=confirm_items,
        batch=batch,
        context=context,
        seed=seed,
        threads=threads,
        device=device,
        suite=suite,
        tasks=tasks,
        confirm_tasks=confirm_tasks,
        confirm_lengths=confirm_lengths,
    )
    settings = {"seed": seed, "variants": variants, "evaluator": evaluator, "workload": workload.to_json()}
    settings |= {
        name: value
        for name, value, usual in (
            ("agent", agent, "built-in"),
            ("knobs", knobs, "edits"),
            ("model_name", model_name, ""),
            ("start", start, "ready"),
        )
        if value != usual
    }
    with (
        contextlib.ExitStack() as held,
        Ledger.open(options.ledger_file(ledger)) as opened,
        StudyReporter(rounds) as reporter,
    ):
        opened_study = Study.open(opened, study, settings)
        if ray:
            from vortex_attention.discover.cluster import ClusterCampaign, cluster_of

            cluster = held.enter_context(cluster_of(opened_study, ray, ray_address))
            campaign = ClusterCampaign(opened_study, cluster, reporter, agent=proposer)
        else:
            laboratory = (
                Laboratory(workload, reporter, snapshots=snapshots)
                if evaluator == "real"
                else laboratory_of(opened_study, reporter)
            )
            held.callback(getattr(laboratory, "close", lambda: None))
            campaign = Campaign(opened_study, laboratory, reporter, agent=proposer)
        last, last_confirmation = (began + limit if limit else math.inf for limit in (seconds, confirm_seconds))
        campaign.run(rounds, variants, seed, ready=start == "ready", until=last, confirm=confirm)
        campaign.work_outside()
        confirmed = campaign.confirm(until=last_confirmation, most=confirmations) if confirm else campaign.confirmed()
        points, claims = campaign.points(), campaign.claims()
        names = {proposal.id: proposal for proposal in opened_study.proposals()}
        verdicts = opened_study.verdicts()
    show.print_study(study, points, confirmed, names, verdicts, as_json=json, claims=claims)
