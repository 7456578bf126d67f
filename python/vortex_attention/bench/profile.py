"""The rates of this machine's CPU at the parts of a decode step, measured once for a model, a batch and a kind of KV, and kept.

A workbench decodes with full attention, `centroid` and `quest` at two lengths; straight lines through the times of each part give a rate
and what a row or a candidate takes beside it. Profiles lie in the cache folder, one file each; those of another build are not used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform

import numpy as np

from .. import _core, fetch, flows
from ..errors import UserError, VortexError
from ..measure.devices import Device
from ..models import load_model, memory_of
from ..models.source import Source
from . import decode

CONTEXTS = (1024, 2048, 7000)
FLOWS = ("centroid", "quest")
STEPS, BLOCKS = 4, 3


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                (line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine()
            )
    except OSError:
        return platform.machine()


def _path(**of) -> str | None:
    core = os.stat(_core.__file__)
    key = json.dumps([_cpu(), core.st_size, core.st_mtime_ns, of], sort_keys=True).encode()
    try:
        return os.path.join(fetch.cache_folder("profiles"), hashlib.sha256(key).hexdigest()[:32] + ".json")
    except VortexError:
        return None


def _read(path: str | None) -> dict | None:
    try:
        with open(path or "", encoding="utf-8") as file:
            kept = json.load(file)
        return kept if isinstance(kept, dict) else None
    except (OSError, ValueError):
        return None


def _write(path: str | None, what: dict) -> None:
    if path is None:
        return
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
            json.dump(what, file)
        os.replace(file.name, path)
    except OSError:
        return


def read_rate(threads: int) -> float:
    """Bytes a second at which all threads stream a buffer, measured once on this machine."""
    path = _path(rate=threads)
    kept = _read(path)
    if kept is None or not isinstance(kept.get("read"), float):
        kept = {"read": float(_core.measured_read_bandwidth(threads, bytes=256 << 20))}
        _write(path, kept)
    return kept["read"]


def find(*, model: str, weight_bytes: int, batch: int, kv_dtype: str, threads: int) -> Device | None:
    """The profile that `measure` kept."""
    kept = _read(_path(model=model, weight_bytes=weight_bytes, batch=batch, kv_dtype=kv_dtype, threads=threads))
    fields = {field.name for field in dataclasses.fields(Device)}
    return Device(**kept) if kept is not None and set(kept) == fields else None


def _fit(seconds: list[float], *features: list[float]) -> list[float]:
    """Coefficients, none below zero, that make the relative errors of Σ coefficient · feature least."""
    from scipy.optimize import nnls

    times = np.array(seconds)
    return [float(value) for value in nnls(np.array(features).T / times[:, None], np.ones(len(times)))[0]]


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
    attend, score, select, others = ([], []), ([], []), ([], []), []
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
                    select[0].append(parts["select"])
                    select[1].append(rows * price.candidates)
        finally:
            for sequence in base:
                bench.release(sequence)
    read = read_rate(threads)
    per_byte, per_row = _fit(attend[0], attend[1], [rows] * len(attend[0]))
    score_byte, score_row = _fit(score[0], score[1], [rows] * len(score[0]))
    (candidate,) = _fit(select[0], select[1])
    device = Device(
        "cpu",
        read,
        compute=1.4e11 * threads,
        linears_share=1.0,
        score_share=1 / (score_byte * read),
        attend_share=1 / (per_byte * read),
        full_layer=0.0,
        scored_layer=0.0,
        candidate=candidate,
        score_row=score_row,
        attend_row=per_row,
        linears=float(np.median(others)),
        how="measured on this machine",
    )
    _write(
        _path(model=model, weight_bytes=weight_bytes, batch=batch, kv_dtype=kv_dtype, threads=threads),
        dataclasses.asdict(device),
    )
    return device
