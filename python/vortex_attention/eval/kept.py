"""Files that are worth keeping and can be made again: named by what they hold, checked by their sum when they are read, made by rename,
the least recently used ones gone when the folder is full. A damaged file is noticed and removed. Failing to write one is no error:
the run goes on without."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path


class KeptFiles:
    """limit: bytes that the folder may hold. magic: the first line of each file. what: one of them, in messages."""

    def __init__(self, folder: Path, limit: int, say: Callable[[str], None], *, magic: bytes, suffix: str, what: str):
        self.folder, self.limit, self.say = folder, limit, say
        self.magic, self.suffix, self.what = magic, suffix, what
        self.made = self.taken = self.damaged = 0

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.{self.suffix}"

    def read(self, key: str) -> bytes | None:
        path = self.path(key)
        try:
            raw = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        head, _, rest = raw.removeprefix(self.magic).partition(b"\n")
        try:
            facts = json.loads(head)
            whole = (
                raw.startswith(self.magic)
                and facts["key"] == key
                and facts["sha256"] == hashlib.sha256(rest).hexdigest()
            )
        except (ValueError, KeyError, TypeError):
            whole = False
        if whole:
            self.taken += 1
            return rest
        self.damaged += 1
        self.say(f"the {self.what} {path} is damaged; it is made again")
        path.unlink(missing_ok=True)
        return None

    def write(self, key: str, saved: bytes) -> None:
        if len(saved) > self.limit:
            return
        part = self.path(key).with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(saved))
            head = json.dumps({"key": key, "sha256": hashlib.sha256(saved).hexdigest()}).encode()
            with open(part, "wb") as file:
                file.write(self.magic + head + b"\n")
                file.write(saved)
            os.replace(part, self.path(key))
            self.made += 1
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            self.say(f"no {self.what} is kept in {self.folder}: {error.strerror or error}")
            self.limit = 0

    def _make_room(self, size: int) -> None:
        files = []
        for path in [*self.folder.glob(f"*.{self.suffix}"), *self.folder.glob("*.part")]:
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
