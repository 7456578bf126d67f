"""The rates of this machine's CPU at the parts of a decode step, measured once for a model, a batch and a kind of KV, and kept.

A workbench decodes with full attention, `centroid`, `quest` and `centroid_rest` at three lengths; straight lines through the times of each part give a rate
and what a row or a candidate takes beside it. Profiles are kept where measure/machine.py finds them.
"""

from __future__ import annotations

import numpy as np

from .. import _core, flows
from ..errors import UserError
from ..measure import machine
from ..measure.devices import Device
from ..models import load_model, memory_of
from ..models.source import Source
from . import decode

CONTEXTS = (1024, 2048, 7000)
FLOWS = ("centroid", "quest", "centroid_rest")  # of other bytes, and of other operations
STEPS, BLOCKS = 4, 3


def _fit(seconds: list[float], *features: list[float]) -> list[float]:
    """Coefficients, none below zero, that make the relative errors of Σ coefficient · feature least."""
    from scipy.optimize import nnls

    times = np.array(seconds)
    return [float(value) for value in nnls(np.array(features).T / times[:, None], np.ones(len(times)))[0]]


def share_of(seconds: float, read: float) -> float:
    """Of the rate `read` at which memory is read, where a byte takes so long; at most four times it: what lies in a cache, or took no time that
    was seen."""
    return 1 / (max(seconds, 0.25 / read) * read)


def measure(source: Source, *, model: str, weight_bytes: int, batch: int, kv_dtype: str, threads: int) -> Device:
    """Measures and keeps. MachineError when the model and its contexts do not fit into memory."""
    limit = source.config.context - STEPS - 2
    contexts = sorted({min(length, limit) for length in CONTEXTS})
    if contexts[0] < 256:
        raise UserError(
            "--measure",
            "a model with a context of at least 512 tokens",
            f"{source.config.context}",
            "measure another one",
        )
    page_size, longest = 16, contexts[-1]
    pages = batch * (longest // page_size + 4) + 8
    memory_of(
        source, batch=batch, pages=pages, page_size=page_size, kv_dtype=kv_dtype, summary_bytes=3 * 4 * 256
    ).require("lower --batch")
    loaded = load_model(source, threads=threads)
    bench = _core.Workbench(
        loaded.model, page_size=page_size, pages=pages, threads=threads, max_batch=batch, kv_dtype=kv_dtype
    )
    ids = {"full": -1, **{name: bench.load_flow(flows.ready(name)) for name in FLOWS}}
    attention = loaded.config.attention
    rows = batch * attention.kv_heads * loaded.config.layers
    shape = {"head_dim": attention.head_dim, "group": attention.group, "value_dim": attention.value_dim}
    work = {"layers": loaded.config.layers, "heads": attention.kv_heads * attention.group, "kv_heads": attention.kv_heads,
            "head_dim": attention.head_dim, "token_bytes": _core.kv_token_bytes(attention.head_dim, attention.value_dim, attention.values_in_keys, kv_dtype)}  # fmt: skip
    plans = {name: _core.compile_flow(flows.ready(name), **shape) for name in FLOWS}
    attend, score, select, others = ([], []), ([], [], []), ([], []), []
    for context in contexts:
        base = [bench.fill(context, seed) for seed in range(1, batch + 1)]
        try:
            for name, flow in ids.items():
                blocks = [decode.time_block(bench, loaded.model, base, flow, STEPS, 1) for _ in range(BLOCKS)]
                parts = {part: min(block.parts[part] for block in blocks) for part in decode.PARTS}
                price = _core.price(
                    plans[FLOWS[0] if flow < 0 else name], **work, context=context + STEPS // 2, batch=batch
                )
                others.append(parts["other"] + parts["append"])
                attend[0].append(parts["attend"])
                attend[1].append(price.full_attention_bytes if flow < 0 else price.attend_bytes)
                if flow >= 0 and price.candidates:
                    score[0].append(parts["score"])
                    score[1].append(price.score_bytes)
                    score[2].append(price.loose_score_operations)
                    select[0].append(parts["select"])
                    select[1].append(rows * price.candidates)
        finally:
            for sequence in base:
                bench.release(sequence)
    read = machine.read_rate(threads)
    per_byte, per_row = _fit(attend[0], attend[1], [rows] * len(attend[0]))
    score_byte, operation, score_row = _fit(score[0], score[1], score[2], [rows] * len(score[0]))
    (candidate,) = _fit(select[0], select[1])
    device = Device(
        "cpu",
        read,
        compute=1.4e11 * threads,
        linears_share=1.0,
        score_share=share_of(score_byte, read),
        attend_share=share_of(per_byte, read),
        full_layer=0.0,
        scored_layer=0.0,
        candidate=candidate,
        score_operation=operation,
        score_row=score_row,
        attend_row=per_row,
        linears=float(np.median(others)),
        how="measured on this machine",
    )
    machine.keep(device, model=model, weight_bytes=weight_bytes, batch=batch, kv_dtype=kv_dtype, threads=threads)
    return device
