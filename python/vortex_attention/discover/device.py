"""Who may measure on this machine: time is measured by one process at a time, the rest of the gates by any number of them meanwhile.

A lock on a file beside the ledger, which a killed process lets go of. Workers on other machines have locks of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

TIMED = ("bench", "confirm")  # gates that time


@contextlib.contextmanager
def held(ledger: Path, gate: str) -> Iterator[None]:
    """Waits for the device, and holds it alone for a gate that times."""
    handle = os.open(f"{ledger}.{socket.gethostname()}.device", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if gate in TIMED else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
