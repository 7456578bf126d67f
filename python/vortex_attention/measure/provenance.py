"""Where a figure comes from: machine, program version, libraries, date. Recorded with every result, never asked of the user."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from .. import __version__, _core

LIBRARIES = ("numpy", "scipy", "tokenizers", "jinja2")
NUMERICS = 1  # raised by every change that alters the bits of a logit on some machine


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _library_versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def provenance(device: dict | None = None) -> dict:
    """Facts of this process and machine, JSON-ready. `dirty` says that the checkout held uncommitted changes, None that this is
    no checkout. device: {"device": name, "driver": version} of an accelerator, the CPU when None."""
    # An installed package inside somebody's checkout is not part of it.
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    commit = _git("rev-parse", "--short=12", "HEAD") if tracked else None
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "commit": commit or "unknown",
        "dirty": bool(_git("status", "--porcelain")) if commit else None,
        "device": _cpu_name(),
        "driver": "",
        "isa": _core.active_isa(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "libraries": _library_versions(),
        "system": platform.platform(),
        **(device or {}),
    }


def device_facts(device: str) -> dict | None:
    """Of a device by its name, what `provenance` takes; None: the CPU."""
    if device == "cpu":
        return None
    name, _, driver = _core.describe_device(device).partition(", ")
    return {"device": name, "driver": driver}


def place_of(device: str) -> str:
    """What `numerics` takes: of a device its kind and its name, as bits may differ from one to the next."""
    return device if device == "cpu" else f"{device} {device_facts(device)['device']}"


def numerics(*, kv_dtype: str, page_size: int, device: str = "cpu") -> str:
    """What fixes the rounding of a logit, beside model and flow. Accuracy is reused only under equal numerics."""
    kernels = _core.active_isa() if device == "cpu" else device
    return f"{NUMERICS} {kernels} kv={kv_dtype} page={page_size}"
