"""Traces that were made before, by the content of all that went into them: a file that did not change is not run again.

A trace is a function of texts (of the file, of the modules beside it, of the language), since a file in the sandbox can read nothing
else. What is kept is the text of the program, which is read as hostile each time. Files of people who are trusted, and files that
print, are not kept. A folder that cannot be written means no traces are kept, nothing else.
"""

import functools
import json
import os
import sys

from vortex_attention import cache
from vortex_attention.errors import VortexError

LIMIT = 1024  # traces; of more the oldest go
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@functools.cache
def _language() -> str:
    """Which language traced: its files by name, size and time."""
    rows = [sys.version]
    for folder in (
        _PACKAGE,
        os.path.join(_PACKAGE, "language"),
        os.path.join(_PACKAGE, "compat"),
        os.path.join(_PACKAGE, "flows"),
    ):
        if not os.path.isdir(folder):
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith((".py", ".so")):
                    status = entry.stat()
                    rows.append(f"{entry.name} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(sorted(rows))


def _file(request: dict) -> str | None:
    try:
        folder = cache.folder("traces")
        what = json.dumps([_language(), request], sort_keys=True).encode()
    except (OSError, ValueError, VortexError):
        return None
    return os.path.join(folder, cache.digest(what))


def find(request: dict) -> tuple[str, str] | None:
    """The text of the program that this request led to before, and the way it was traced."""
    path = _file(request)
    try:
        with open(path or "", encoding="utf-8") as file:
            kept = json.loads(file.read(8 << 20))
    except (OSError, ValueError, RecursionError):
        return None
    if isinstance(kept, dict) and isinstance(kept.get("text"), str) and isinstance(kept.get("sandbox"), str):
        return kept["text"], kept["sandbox"]
    return None


def keep(request: dict, text: str, sandbox: str):
    import tempfile

    path = _file(request)
    if path is None:
        return
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".", delete=False, encoding="utf-8") as file:
            json.dump({"text": text, "sandbox": sandbox}, file)
        os.replace(file.name, path)
        names = os.listdir(folder)
        if len(names) > LIMIT:
            files = [os.path.join(folder, name) for name in names]
            for old in sorted(files, key=os.path.getmtime)[: len(files) - LIMIT // 2]:
                os.unlink(old)
    except OSError:
        return
