"""What keeps the words of a hostile file apart from ours: output that is counted, and a language that nobody changed.

The walls are the kernel's (sandbox.py, tracer.py); this finds what they cannot see, so that it can be named. Code that is set
on it can get past: what it gains is a program that says something else than its source, verified like any other.
"""

import builtins
import errno
import io
import sys
import types

from vortex_attention.errors import UserError
from vortex_attention.language import place

PRINT_LIMIT = 64 << 10  # characters a file may print
SHOWN = 4 << 10  # of which its user sees the first
_PACKAGE = __name__.partition(".")[0]
# What the kernel refuses and Python would answer with a value, as if it had been done.
_REACHES_OUT = {
    "os.system",
    "os.walk",
    "os.fwalk",
    "glob.glob",
    "glob.glob/2",
    "pathlib.Path.glob",
    "pathlib.Path.rglob",
}
_STATE = {"current", "registered"}  # names that change with every trace


class Printed(io.TextIOBase):
    """Standard output of a file: kept for its user as far as it is short, refused where it floods."""

    def __init__(self):
        self.count, self.kept = 0, []

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.count < SHOWN:
            self.kept.append(text[: SHOWN - self.count])
        self.count += len(text)
        if self.count > PRINT_LIMIT:
            raise UserError(
                place.text(), f"a flow prints at most {PRINT_LIMIT >> 10} KiB", "more", "print less, or nothing"
            )
        return len(text)

    def text(self) -> str:
        return "".join(self.kept)


def name_what_reaches_out():
    """From now on such a call raises PermissionError in this process, as the others do that the kernel refuses."""

    def refuse(event: str, _):
        if event in _REACHES_OUT:
            raise PermissionError(errno.EPERM, "Operation not permitted", event.partition("/")[0])

    sys.addaudithook(refuse)


def _namespaces():
    for name, module in list(sys.modules.items()):
        if module is not builtins and name.partition(".")[0] != _PACKAGE:
            continue
        yield name, vars(module)
        for key, member in list(vars(module).items()):
            if isinstance(member, type) and member.__module__ == name:
                yield f"{name}.{member.__qualname__}", vars(member)
            elif isinstance(member, dict) and module is not builtins and key not in _STATE:
                yield f"{name}.{key}", member


def _of_python(key, before, now) -> bool:
    """Whether Python itself sets the name as it goes (annotations, warnings that were given). An operator is a function."""
    name = str(key)
    return name.startswith("__") and (name.startswith("__annot") or not (callable(before) or callable(now)))


class Snapshot:
    """The names of the language and what they stand for."""

    def __init__(self):
        self.spaces = [(name, space, dict(space)) for name, space in _namespaces()]
        self.codes = [
            (name, key, member, member.__code__)
            for name, _, before in self.spaces
            for key, member in before.items()
            if isinstance(member, types.FunctionType)
        ]

    def changed(self) -> str | None:
        """The first name that stands for something else now. Builtins are put back: what follows computes with them."""
        for name, space, before in self.spaces:
            if len(space) == len(before) and all(space.get(key) is member for key, member in before.items()):
                continue
            now = dict(space)
            if space is vars(builtins):
                space.update(before)
            for key in {**before, **now}:
                if now.get(key) is before.get(key) or key in _STATE or _of_python(key, before.get(key), now.get(key)):
                    continue
                if key not in before and isinstance(now[key], types.ModuleType):
                    continue  # a part of the package that was imported since
                return f"{name}.{key}"
        return next((f"{name}.{key}" for name, key, member, code in self.codes if member.__code__ is not code), None)

    def check(self, path: str):
        if name := self.changed():
            raise UserError(
                path, "the language stays as it is while a flow is traced", f"{name} was changed", "leave it alone"
            )
