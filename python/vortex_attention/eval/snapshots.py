"""Prefilled KV on disk, so that an item is prefilled once for every flow, budget and run. A file is named by what it holds (model,
numerics, tokens), checked by its sum when it is read, made by rename, and the least recently used ones go when the folder is full.
A damaged file is noticed, removed and made again. Failing to write one is no error: the run goes on without."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

MAGIC = b"vortex-kv 1\n"


class Snapshots:
    """limit: bytes that the folder may hold."""

    def __init__(self, folder: Path, limit: int, say: Callable[[str], None]):
        self.folder, self.limit, self.say = folder, limit, say
        self.made = self.taken = self.damaged = 0

    @staticmethod
    def key(model_sha256: str, numerics: str, tokens: Sequence[int]) -> str:
        state = hashlib.sha256(f"{model_sha256} {numerics} ".encode())
        state.update(np.asarray(tokens, dtype=np.int32).tobytes())
        return state.hexdigest()

    def sequence(self, bench, tokens: Sequence[int], *, model_sha256: str, numerics: str) -> int:
        """A sequence of the workbench that holds the KV of the tokens: restored, or prefilled and kept."""
        key = self.key(model_sha256, numerics, tokens)
        saved = self._read(key)
        if saved is not None:
            self.taken += 1
            return bench.restore(saved, len(tokens))
        sequence = bench.prefill(list(tokens))
        if self.limit > 0:
            self._write(key, bench.save(sequence))
        return sequence

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.kv"

    def _read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            raw = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        head, _, rest = raw.removeprefix(MAGIC).partition(b"\n")
        try:
            facts = json.loads(head)
            whole = (
                raw.startswith(MAGIC) and facts["key"] == key and facts["sha256"] == hashlib.sha256(rest).hexdigest()
            )
        except (ValueError, KeyError, TypeError):
            whole = False
        if whole:
            return rest
        self.damaged += 1
        self.say(f"the snapshot {path} is damaged; it is made again")
        path.unlink(missing_ok=True)
        return None

    def _write(self, key: str, saved: bytes) -> None:
        if len(saved) > self.limit:
            return
        part = self._path(key).with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(saved))
            head = json.dumps({"key": key, "sha256": hashlib.sha256(saved).hexdigest()}).encode()
            with open(part, "wb") as file:
                file.write(MAGIC + head + b"\n")
                file.write(saved)
            os.replace(part, self._path(key))
            self.made += 1
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            self.say(f"no snapshot is kept in {self.folder}: {error.strerror or error}")
            self.limit = 0

    def _make_room(self, size: int) -> None:
        files = []
        for path in [*self.folder.glob("*.kv"), *self.folder.glob("*.part")]:
            try:
                status = path.stat()
            except OSError:  # another process removed it
                continue
            files.append((status.st_mtime, status.st_size, path))
        held = sum(file[1] for file in files)
        for _, bytes_, path in sorted(files):
            if held + size <= self.limit:
                break
            path.unlink(missing_ok=True)
            held -= bytes_
