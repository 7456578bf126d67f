"""Whether figures of two runs may stand side by side: same machine, same commit, same settings. What differs is named and refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UserError

FACTS = ("device", "driver", "commit", "dirty", "isa", "cores")


def what_differs(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """ "commit 0273127 there, 9d25117 here" for each fact that differs; one that only one side has differs."""
    names = [*here, *(name for name in there if name not in here)]
    return [
        f"{name} {there.get(name, 'unknown')} there, {here.get(name, 'unknown')} here"
        for name in names
        if here.get(name) != there.get(name)
    ]


def require_comparable(here: Mapping[str, Any], there: Mapping[str, Any], run: str) -> None:
    """UserError that names what differs. A commit with changes that are not committed is like no other, itself included."""
    found = what_differs(here, there)
    if here.get("dirty") or there.get("dirty"):
        found.append("uncommitted changes")
    if found:
        raise UserError(
            "bench",
            f"a run of the same machine, commit and settings as {run}",
            "; ".join(found),
            "time both in one run with --against, or say --across to see them side by side all the same",
        )
