"""The job behind `vortex bench --mix`: offline throughput of flows on mixes of lengths, paired with full attention and with an incumbent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import _core, flows
from ..bench import mixes, throughput
from ..engine.pages import physical_page_size
from ..errors import UserError
from ..ledger import Block, Ledger
from ..measure.provenance import device_facts, numerics, place_of, provenance
from ..models import load_model, memory_of, open_source

Progress = Callable[[str, int, int], None]


@dataclass
class Wanted:
    mixes: Sequence[str]
    flows: Sequence[str]
    model: str = "smollm2"
    load_format: str = "auto"
    overrides: dict[str, str] = field(default_factory=dict)
    incumbent: str = ""
    requests: int = 8
    scale: float = 1.0
    batch: int = 8
    rounds: int = 3
    seed: int = 1
    threads: int = 0
    kv_dtype: str = "bf16"
    device: str = "cpu"


def offline(wanted: Wanted, progress: Progress, ledger: Ledger | None = None) -> dict:
    """The whole result, a case for each mix."""
    threads = _core.thread_count(wanted.threads)
    source = open_source(wanted.model, wanted.load_format)
    loaded_flows: dict[str, flows.LoadedFlow] = {}
    incumbent = flows.load_at(wanted.incumbent, **wanted.overrides).name if wanted.incumbent else ""
    for text in dict.fromkeys([*wanted.flows, *([wanted.incumbent] if wanted.incumbent else [])]):
        flow = flows.load_at(text, **wanted.overrides)
        if flow.name in loaded_flows or flow.name == "full":
            raise UserError(
                "flows", "flows with different names, none called full", f"{flow.name} a second time", "rename one"
            )
        loaded_flows[flow.name] = flow
    page = physical_page_size([flow.config.page_size for flow in loaded_flows.values()] or [16])
    config = source.config
    made = {
        name: mixes.make(
            name,
            requests=wanted.requests,
            seed=wanted.seed,
            scale=wanted.scale,
            vocabulary=config.vocabulary,
            limit=config.context,
        )
        for name in dict.fromkeys(wanted.mixes)
    }
    longest = max(conversation.longest for mix in made.values() for conversation in mix)
    pages = wanted.batch * (-(-longest // page) + 2)
    memory = memory_of(source, batch=wanted.batch, pages=pages, page_size=page, kv_dtype=wanted.kv_dtype)
    if wanted.device == "cpu":  # on a device the engine says itself what does not fit
        memory.require("lower --batch or --scale")
    progress(f"loading: {memory}", 0, 1)
    loaded = load_model(source, threads=threads, device=wanted.device)
    engine = _core.EngineConfig(
        page_size=page,
        pages=pages,
        max_batch=wanted.batch,
        max_context=longest,
        chunk_tokens=loaded.chunk_tokens,
        threads=threads,
        kv_dtype=wanted.kv_dtype,
    )
    count = len(loaded_flows)
    runs = wanted.rounds * ((4 * count + (4 * (count - 1) if incumbent else 0)) if count else 1)
    done, total = 0, runs * len(made)

    def advance() -> None:
        nonlocal done
        done += 1
        progress("mixes: runs", done, total)

    progress("mixes: runs", 0, total)
    cases = []
    facts = provenance(device_facts(wanted.device))
    settings = {"requests": wanted.requests, "scale": wanted.scale, "batch": wanted.batch, "rounds": wanted.rounds, "seed": wanted.seed,
                "threads": threads, "mixes": list(made)}  # fmt: skip
    programs = {name: flow.program for name, flow in loaded_flows.items()}
    recorded = contextlib.nullcontext()
    if ledger is not None:
        recorded = ledger.run("throughput", suite="mix", model=loaded.name, model_sha256=loaded.sha256, settings=settings,
                              numerics=numerics(kv_dtype=wanted.kv_dtype, page_size=page, device=place_of(wanted.device)), environment=facts)  # fmt: skip
    with recorded as run:
        arms = (
            {}
            if run is None
            else {"full": run.arm("full")} | {name: run.arm(name, program) for name, program in programs.items()}
        )
        for mix, conversations in made.items():

            def measured(
                name: str, baseline: str, number: int, quartet: tuple, load: str = f"{mix}:{wanted.requests}"
            ) -> None:
                if run is not None:
                    who = (baseline, name, name, baseline)
                    run.add_blocks([(arms[arm], Block(load, number, place, one.seconds, name if arm == baseline else baseline, one.observed()))
                                    for place, (arm, one) in enumerate(zip(who, quartet))])  # fmt: skip

            found = throughput.bench_mix(loaded.model, programs, conversations, engine, rounds=wanted.rounds, incumbent=incumbent,
                                         progress=advance, measured=measured)  # fmt: skip
            cases.append({"mix": mix, "what": mixes.MIXES[mix], "conversations": len(conversations), "incumbent": incumbent or None,
                          "arms": [throughput.summarise(arm, incumbent) for arm in found]})  # fmt: skip
        if run is not None:
            run.summary = {"cases": cases}
    return {"schema": 1, "provenance": facts, "model": {"name": loaded.name, "sha256": loaded.sha256}, "settings": settings,
            "flows": [{"name": name, "hash": flow.hash, "config": str(flow.config)} for name, flow in loaded_flows.items()],
            "run": run.id if run else None, "mixes": cases}  # fmt: skip
