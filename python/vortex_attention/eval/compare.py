"""A row of full attention's logits beside rows of arms: KL and the likeliest token, in float32: a KL is right to 1e-5 of
1 + KL. Numbers that are not finite are refused here, so nothing else need look for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from .. import _core
from ..measure.finite import require_finite


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(16, _core.thread_count()), thread_name_prefix="compare")


def side_by_side(work: Callable, *columns: Sequence) -> list[Any]:
    """work of each row, on all cores: NumPy leaves the interpreter lock alone while it works on a row."""
    return list(_threads().map(work, *columns))


def later(work: Callable, *columns: Sequence) -> Callable[[], list[Any]]:
    """The same, begun now; what it gives is waited for when it is asked for."""
    begun = [_threads().submit(work, *row) for row in zip(*columns, strict=True)]
    return lambda: [one.result() for one in begun]


def likeliest(logits: np.ndarray) -> int:
    return int(logits.argmax())


def _log_softmax(row: np.ndarray, full: bool) -> np.ndarray:
    """float32; NaN anywhere, or an infinite number, ends in the error of `require_finite`."""
    top = row.max()
    shifted = row - top
    total = float(np.exp(shifted).sum())
    if not (np.isfinite(top) and np.isfinite(total) and np.isfinite(row.min())):
        require_finite(row, "eval", full=full)
    shifted -= np.float32(np.log(total))
    return shifted


class FullRow:
    """What full attention said at one position. likeliest: its token."""

    def __init__(self, logits: np.ndarray):
        self.log_shares = _log_softmax(np.asarray(logits, dtype=np.float32), True)
        self.shares = np.exp(self.log_shares)
        self.likeliest = int(self.log_shares.argmax())

    def divergence(self, logits: np.ndarray) -> float:
        """KL(full ‖ arm) in nats."""
        own = _log_softmax(np.asarray(logits, dtype=np.float32), False)
        np.subtract(self.log_shares, own, out=own)
        return max(0.0, float(np.dot(self.shares, own)))
