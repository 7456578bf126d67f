"""Who may measure on this machine: time is measured by one process at a time, the rest of the gates by any number of them meanwhile.

A lock on a file of the user's on this machine, whatever study or cluster the process belongs to, which a killed process lets go of. Workers
on other machines have locks of their own, and must be of one kind: the speeds of a study are compared.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator

from ..errors import MachineError

TIMED = ("bench", "confirm")  # gates that time


def require_same(study: str, before: list[str], here: str) -> None:
    """before: the devices that the study's speeds were measured on."""
    others = sorted(set(before) - {here})
    if others:
        raise MachineError(
            "discover",
            f"the device that the speeds of study {study} were measured on, {', '.join(others)}",
            f"this one is {here}",
            "go on there, or begin another study: speeds of two devices are not compared",
        )


@contextlib.contextmanager
def held(gate: str, laboratory=None) -> Iterator[None]:
    """Waits for the device, and holds it alone for a gate that times. A laboratory that reads no clock waits for nobody."""
    if not getattr(laboratory, "timing", True):
        yield
        return
    path = os.path.join(tempfile.gettempdir(), f"vortex-{os.getuid()}.device")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise MachineError(
            "discover",
            f"a file that says who measures, {path}",
            error.strerror or str(error),
            "remove what stands there, or set TMPDIR to a folder of your own",
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if gate in TIMED else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
