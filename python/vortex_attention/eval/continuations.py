"""Continuations that full attention wrote, kept on disk: what a longer run or another flow needs of the same text is not written again.
Named by model, numerics, prompt and what fixes the draws; a file holds as many tokens as were written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .kept import KeptFiles

LIMIT = 1 << 28  # bytes


class Continuations(KeptFiles):
    """model_sha256, numerics: of what writes."""

    def __init__(self, folder: Path, model_sha256: str, numerics: str, say: Callable[[str], None]):
        super().__init__(folder, LIMIT, say, magic=b"vortex-text 1\n", suffix="text", what="continuation")
        self.of = f"{model_sha256} {numerics}"

    def _key(self, prompt: Sequence[int], draws: str) -> str:
        state = hashlib.sha256(f"{self.of} {draws} ".encode())
        state.update(np.asarray(prompt, dtype=np.int32).tobytes())
        return state.hexdigest()

    def find(self, prompt: Sequence[int], draws: str) -> list[int]:
        """The tokens that are known, none when there are none."""
        saved = self.read(self._key(prompt, draws))
        return [] if saved is None else np.frombuffer(saved, dtype=np.int32).tolist()

    def keep(self, prompt: Sequence[int], draws: str, tokens: Sequence[int]) -> None:
        self.write(self._key(prompt, draws), np.asarray(tokens, dtype=np.int32).tobytes())
