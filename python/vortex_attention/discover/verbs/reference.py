"""reference: what there is to design with: how to start, the language on a page, every op, the ready flows with their sources, gates, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from .args import Says
from .records import Reference

if TYPE_CHECKING:
    from .desk import Desk

PAGES = ("start", "language", "ops", "flows", "gates", "errors", "verbs")


def reference(
    desk: Desk,
    topic: Annotated[
        str,
        Says("start, language, ops, flows, gates, errors, verbs; the name of an op, a ready flow or a verb", most=100),
    ] = "start",
) -> Reference:
    """Look up the language, an op, a ready flow, the gates."""
    from ... import _core
    from ...errors import UserError
    from ...flows import load, names

    ops = {op["name"]: op for op in _core.op_table()}
    from . import VERBS

    if topic in PAGES:
        text = {"ops": _ops, "flows": _flows, "errors": _errors, "verbs": _verbs}.get(topic, lambda: _page(topic))()
    elif topic in names():
        text = load(topic).source
    elif topic in ops:
        text = _op(ops[topic])
    elif topic in VERBS:
        text = _verb(topic)
    else:
        near = _core.nearest_name(topic, [*PAGES, *names(), *ops, *VERBS])
        raise UserError(
            "reference",
            f"a topic: {', '.join(PAGES)}, an op, a ready flow or a verb",
            repr(topic),
            f'did you mean "{near}"?' if near else "see reference ops",
        )
    return Reference(topic, text, [*PAGES])


def _page(topic: str) -> str:
    from importlib.resources import files

    return files(__package__).joinpath("pages", f"{topic}.md").read_text(encoding="utf-8")


def _op(op: dict) -> str:
    operands = list("abc")[: op["arity"]]
    call = f"{op['name']}({', '.join([*operands, *(attribute['name'] for attribute in op['attributes'])])})"
    facts = [
        word
        for fact, word in (
            ("commutative", "commutative"),
            ("order_preserving", "order-preserving"),
            ("nonnegative", "never below 0"),
        )
        if op[fact]
    ]
    settings = "".join(f"\n    {attribute['name']}: {attribute['doc']}" for attribute in op["attributes"])
    return f"{call}  [{op['kind']}] {op['doc']}{' (' + ', '.join(facts) + ')' if facts else ''}{settings}"


def _ops() -> str:
    from ... import _core

    return "\n".join(_op(op).split("\n")[0] for op in _core.op_table())


def _flows() -> str:
    from ...flows import load, names

    return "\n".join(f"{name}: {' '.join(load(name).doc.split())}" for name in names())


def _errors() -> str:
    from .mistakes import MISTAKES

    return "\n".join(
        f'{mistake.kind} ("{" ... ".join(mistake.words)}"): {mistake.cause} {mistake.fix}' for mistake in MISTAKES
    )


def _verbs() -> str:
    from . import VERBS, about

    return "\n".join(f"{name}: {about(name)}" for name in VERBS)


def _verb(name: str) -> str:
    import json

    from . import schemas

    return json.dumps(schemas(name), indent=1)
