"""The job behind `vortex eval`: a suite on a model, measured into the ledger, summed up as one JSON-ready result."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..eval import bed as beds
from ..eval import summary
from ..eval.continuations import Continuations
from ..eval.made_items import MadeItems
from ..eval.runner import Held, Progress, run_suite
from ..eval.suites import make, require
from ..eval.suites.context import Context, context_of
from ..eval.trace_bed import TraceBed
from ..fetch import cache_folder
from ..ledger import Ledger
from ..measure.provenance import provenance
from ..models.data import natural_text
from .cards import cards
from ..models.geometry import of_source

DEFAULT_FLOWS = ("centroid", "quest", "mean_deviation", "sub_centroid", "slow_means")


@dataclass
class Wanted:
    """What is measured. options: of the suite, None for its own; snapshots: gigabytes."""

    suite: str = "needle"
    flows: Sequence[str] = DEFAULT_FLOWS
    model: str = "smollm2"
    load_format: str = "auto"
    overrides: dict[str, str] = field(default_factory=dict)
    kv_dtype: str = "bf16"
    threads: int = 0
    device: str = "cpu"
    controls: bool = True
    stop_losers: bool = False
    fresh: bool = False
    snapshots: float = 8.0
    together: int = 0  # items at once; 0: one on the CPU, on a device what its room allows
    options: dict = field(default_factory=dict)


def _bed(wanted: Wanted, loaded_flows: dict, progress: Progress):
    """What the suite runs on, and what it may ask of the model."""
    common = dict(
        threads=wanted.threads,
        kv_dtype=wanted.kv_dtype,
        device=wanted.device,
        load_format=wanted.load_format,
        progress=progress,
    )
    if wanted.suite == "screen":
        bed = TraceBed(wanted.model, loaded_flows, natural=natural_text, gigabytes=min(wanted.snapshots, 4.0), **common)
        return bed, bed.context
    bed = beds.Bed(wanted.model, loaded_flows, **common)
    return bed, context_of_bed(bed)


def context_of_bed(bed: beds.Bed) -> Context:
    """What suites may ask of its model, with what is kept of earlier runs."""

    def say(line: str) -> None:
        bed.progress(line, 1, 1)

    return context_of(
        bed.loaded,
        natural_text,
        Continuations(cache_folder("continuations"), bed.sha256, bed.numerics, say),
        MadeItems(cache_folder("items"), bed.sha256, say),
    )


def accuracy(wanted: Wanted, progress: Progress, ledger: Ledger | None = None) -> dict:
    """The whole result; docs/eval.md lists its keys."""
    require(wanted.suite, **wanted.options)
    controls = beds.CONTROLS if wanted.controls else ()
    loaded_flows = beds.load_flows(wanted.flows, wanted.overrides, controls)
    bed, context = _bed(wanted, loaded_flows, progress)
    return on_bed(bed, context, wanted, progress, ledger)


def on_bed(
    bed,
    context: Context,
    wanted: Wanted,
    progress: Progress,
    ledger: Ledger | None = None,
    held: Held | None = None,
) -> dict:
    """The same on a bed that is there, whose model and flows are measured. held: as run_suite calls it."""
    loaded_flows = bed.flows
    suite = make(wanted.suite, context, **wanted.options)
    items = suite.items()
    progress(summary.size_said_before(suite, len(items)), 1, 1)
    snapshots = bed.snapshots(wanted.snapshots)
    together = wanted.together or bed.together(items)
    lanes = suite.lanes(len(bed.programs) + 1, together)
    arms = bed.prepare(items, branches=getattr(suite, "branches", 1), together=together, lanes=lanes)
    facts = provenance(bed.device_facts)
    recorded = contextlib.nullcontext()
    if ledger is not None:
        recorded = ledger.run(
            "accuracy",
            suite=suite.name,
            model=bed.name,
            model_sha256=bed.sha256,
            numerics=bed.numerics,
            settings=suite.settings,
            environment=facts,
        )
    with recorded as run:
        measured = run_suite(
            suite,
            items,
            arms,
            bed.prefill(snapshots),
            programs=bed.programs,
            controls=beds.CONTROLS,
            run=run,
            progress=progress,
            fresh=wanted.fresh,
            stop_losers=wanted.stop_losers,
            together=together,
            held=held,
        )
        result = summary.summarise(suite, measured, list(beds.CONTROLS))
        if run is not None:
            arms_only = [{key: value for key, value in arm.items() if key != "outcomes"} for arm in result["arms"]]
            run.summary["result"] = result | {"arms": arms_only}
            longest = max(len(item.prompt) + item.steps for item in items)
            run.summary["flows"] = cards(loaded_flows, of_source(bed.source, wanted.kv_dtype), [(1, longest)])
    return {"schema": 2, "provenance": facts, "model": {"name": bed.name, "sha256": bed.sha256}, "kv_dtype": wanted.kv_dtype,
            "threads": bed.threads, "numerics": bed.numerics, "run": run.id if run else None,
            "snapshots": {"made": snapshots.made, "taken": snapshots.taken, "damaged": snapshots.damaged},
            "flows": [{"name": name, "hash": flow.hash, "config": str(flow.config), "doc": flow.doc, "source": flow.source}
                      for name, flow in loaded_flows.items()],
            **result}  # fmt: skip
