"""The verbs of a study, for humans and machines: one function each, its arguments annotated, its answer a record. The command line
(`vortex study VERB`) and MCP (`vortex mcp`) are made from this list, so that both say and do the same. Importing it loads nothing heavy.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING

from ...errors import UserError
from .accounts import accounts
from .args import Argument, arguments_of, checked, input_schema, record_of
from .begin import begin
from .check import check
from .compare import compare
from .explain_error import explain_error
from .flows import flows
from .frontier import frontier
from .lineage import lineage
from .price import price
from .propose import propose
from .publish import publish
from .reference import reference
from .result import result
from .screen import screen
from .spend import spend
from .submit import submit
from .wait import wait
from .withdraw import withdraw

if TYPE_CHECKING:
    from .desk import Desk

_ALL = [begin, reference, check, price, propose, screen, submit, wait, result, frontier, compare, lineage, flows, explain_error, accounts, spend,
        withdraw, publish]  # fmt: skip
VERBS = {verb.__name__.replace("_", "-"): verb for verb in _ALL}
WRITES = {"begin", "propose", "screen", "submit", "spend", "withdraw"}


@functools.cache
def arguments(name: str) -> tuple[Argument, ...]:
    return tuple(arguments_of(VERBS[name]))


def about(name: str) -> str:
    """What a verb does and refuses: the first lines of its file."""
    return " ".join((inspect.getmodule(VERBS[name]).__doc__ or "").split()).partition(": ")[2]


def call(desk: Desk, name: str, given: dict) -> object:
    """A verb by its name, with arguments as they came; its record. UserError with what to do next."""
    if name not in VERBS:
        from ... import _core

        near = _core.nearest_name(str(name)[:80], list(VERBS))
        raise UserError(
            "verbs",
            f"one of {', '.join(VERBS)}",
            repr(str(name)[:80]),
            f'did you mean "{near}"?' if near else "choose one",
        )
    return VERBS[name](desk, **checked(name, list(arguments(name)), given))


def schemas(name: str) -> dict:
    """JSON Schemas of what a verb takes and answers."""
    from .records import schema

    return {
        "verb": name,
        "about": about(name),
        "input": input_schema(list(arguments(name))),
        "output": schema(record_of(VERBS[name])),
    }
