"""What was measured of this machine, kept in the cache folder: the rate of reading memory, and profiles (bench/profile.py). One small file
each, named by the processor, the build and what was measured; those of another build are not used. Imports nothing heavy.
"""

from __future__ import annotations

import json
import os

from vortex_attention import _core, cache
from vortex_attention.errors import VortexError
from vortex_attention.measure.devices import Device


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                (line.partition(":")[2].strip() for line in file if line.startswith("model name")), os.uname().machine
            )
    except OSError:
        return os.uname().machine


def _path(**of) -> str | None:
    core = os.stat(_core.__file__)
    key = json.dumps([_cpu(), core.st_size, core.st_mtime_ns, of], sort_keys=True).encode()
    try:
        return os.path.join(cache.folder("profiles"), cache.digest(key)[:32] + ".json")
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
    return Device(**kept) if kept is not None and set(kept) == set(Device._fields) else None


def keep(device: Device, **of) -> None:
    _write(_path(**of), device._asdict())
