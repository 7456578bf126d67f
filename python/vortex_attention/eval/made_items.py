"""Questions of a task as tokens, kept on disk: drawing them to a length takes seconds a question, and where they are answered their
sources need not be. Named by model (whose tokens they are), task, length, seed and generator; a file holds as many as were made."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .kept import KeptFiles

LIMIT = 1 << 28  # bytes


@dataclass(frozen=True)
class Made:
    """room: tokens of an answer."""

    prompt: tuple[int, ...]
    outputs: tuple[str, ...]
    room: int
    cluster: str = ""


class MadeItems(KeptFiles):
    def __init__(self, folder: Path, model_sha256: str, say: Callable[[str], None]):
        super().__init__(folder, LIMIT, say, magic=b"vortex-items 1\n", suffix="items", what="set of questions")
        self.model_sha256 = model_sha256

    def _key(self, what: dict) -> str:
        return hashlib.sha256(f"{self.model_sha256} {json.dumps(what, sort_keys=True)}".encode()).hexdigest()

    def find(self, what: dict) -> list[Made]:
        saved = self.read(self._key(what))
        if saved is None:
            return []
        head, _, tokens = zlib.decompress(saved).partition(b"\n")
        flat, made = np.frombuffer(tokens, dtype=np.int32), []
        for count, outputs, room, cluster in json.loads(head):
            made.append(Made(tuple(flat[:count].tolist()), tuple(outputs), room, cluster))
            flat = flat[count:]
        return made

    def keep(self, what: dict, made: Sequence[Made]) -> None:
        head = json.dumps([[len(one.prompt), one.outputs, one.room, one.cluster] for one in made])
        tokens = np.concatenate([np.asarray(one.prompt, dtype=np.int32) for one in made]).tobytes()
        self.write(self._key(what), zlib.compress(head.encode() + b"\n" + tokens, 9))
