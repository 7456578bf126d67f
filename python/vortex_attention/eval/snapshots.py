"""Prefilled KV on disk, so that an item is prefilled once for every flow, budget and run: files named by model, numerics and tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .kept import KeptFiles


class Snapshots(KeptFiles):
    """limit: bytes that the folder may hold."""

    def __init__(self, folder: Path, limit: int, say: Callable[[str], None]):
        super().__init__(folder, limit, say, magic=b"vortex-kv 1\n", suffix="kv", what="snapshot")

    @staticmethod
    def key(model_sha256: str, numerics: str, tokens: Sequence[int]) -> str:
        state = hashlib.sha256(f"{model_sha256} {numerics} ".encode())
        state.update(np.asarray(tokens, dtype=np.int32).tobytes())
        return state.hexdigest()

    def sequence(self, bench, tokens: Sequence[int], *, model_sha256: str, numerics: str) -> int:
        """A sequence of the workbench that holds the KV of the tokens: restored, or prefilled and kept."""
        key = self.key(model_sha256, numerics, tokens)
        saved = self.read(key)
        if saved is not None:
            return bench.restore(saved, len(tokens))
        sequence = bench.prefill(list(tokens))
        if self.limit > 0:
            self.write(key, bench.save(sequence))
        return sequence
