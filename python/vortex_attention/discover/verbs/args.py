"""The arguments of verbs: what each is, its limits, and how what came is held to them. The command line, MCP and the schemas read the same
annotations. Refuses in words; imports nothing heavy."""

from __future__ import annotations

import inspect
import math
import typing
from dataclasses import dataclass

from ...errors import UserError


@dataclass(frozen=True)
class Says:
    """About an argument. file: on the command line a path, read as text, or the name of a ready flow."""

    text: str
    least: float | None = None
    most: float | None = None  # of a number; of a text or list: its length
    one_of: tuple[str, ...] = ()
    file: bool = False


# What a verb that takes a flow is given of it.
Flow = typing.Annotated[
    str,
    Says(
        "the flow: the text of a Python file with one class, IR as text or JSON, or the name of a ready flow",
        most=262144,
        file=True,
    ),
]
Settings = typing.Annotated[dict[str, str], Says("settings of the flow in place of its own, budget=32 say")]
Class = typing.Annotated[str | None, Says("the class that is meant, where the text has several", most=200)]


@dataclass(frozen=True)
class Argument:
    name: str
    kind: object  # str, int, float, bool, list[int], dict[str, str], or one of them with None
    says: Says
    default: object  # inspect.Parameter.empty: required

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def optional(self) -> bool:
        return type(None) in typing.get_args(self.kind)

    @property
    def base(self) -> object:
        """The kind without None."""
        return (
            next(kind for kind in typing.get_args(self.kind) if kind is not type(None)) if self.optional else self.kind
        )

    def schema(self) -> dict:
        """JSON Schema 2020-12."""
        says, base = self.says, self.base
        if base == list[int]:
            found = {"type": "array", "items": {"type": "integer"}} | (
                {"maxItems": int(says.most)} if says.most else {}
            )
        elif base == dict[str, str]:
            found = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
        elif base is str:
            found = (
                {"type": "string"}
                | ({"maxLength": int(says.most)} if says.most else {})
                | ({"enum": list(says.one_of)} if says.one_of else {})
            )
        elif base is bool:
            found = {"type": "boolean"}
        else:
            found = {"type": "integer" if base is int else "number"}
            found |= {
                key: value for key, value in (("minimum", says.least), ("maximum", says.most)) if value is not None
            }
        if self.optional:
            found["type"] = [found["type"], "null"]
        return (
            found
            | {"description": says.text}
            | ({} if self.required or self.default is None else {"default": self.default})
        )

    def checked(self, verb: str, value: object) -> object:
        """The value, held to its kind and limits. UserError in words."""
        where, says, base = f"{verb}: {self.name}", self.says, self.base
        if value is None and self.optional:
            return None
        if base is str:
            if not isinstance(value, str):
                raise UserError(where, "a text", _kind(value), says.text)
            if says.one_of and value not in says.one_of:
                raise UserError(where, f"one of {', '.join(says.one_of)}", repr(value[:80]), _near(value, says.one_of))
            if says.most and len(value) > says.most:
                raise UserError(where, f"at most {int(says.most)} characters", f"{len(value)}", "hand in less")
            return text_of(value)
        if base is bool:
            if not isinstance(value, bool):
                raise UserError(where, "true or false", _kind(value), says.text)
            return value
        if base in (int, float):
            number = _number(value, base)
            if number is None:
                raise UserError(where, "a whole number" if base is int else "a number", _kind(value), says.text)
            if (says.least is not None and number < says.least) or (says.most is not None and number > says.most):
                raise UserError(
                    where,
                    f"a number from {says.least:g}" + (f" to {says.most:g}" if says.most is not None else " on"),
                    f"{number:g}",
                    says.text,
                )
            return number
        if base == list[int]:
            if not isinstance(value, (list, tuple)) or any(_number(one, int) is None for one in value):
                raise UserError(where, "a list of whole numbers", _kind(value), says.text)
            if says.most and len(value) > says.most:
                raise UserError(where, f"at most {int(says.most)} of them", f"{len(value)}", "name fewer")
            return [int(one) for one in value]
        if not isinstance(value, dict) or not all(
            isinstance(key, str) and isinstance(one, (str, int, float, bool)) for key, one in value.items()
        ):
            raise UserError(where, "names with a text or a number each", _kind(value), says.text)
        if len(value) > 32 or any(len(str(one)) > 4096 for one in value.values()):
            raise UserError(where, "at most 32 settings of at most 4096 characters", f"{len(value)}", "hand in fewer")
        return {text_of(key): text_of(_setting(one)) for key, one in value.items()}


def arguments_of(verb) -> list[Argument]:
    """Of a verb's function, without the desk it works at, whose type is not imported here."""
    found = []
    for name, parameter in list(inspect.signature(verb).parameters.items())[1:]:
        kind, says = typing.get_args(_evaluated(verb, parameter.annotation))
        found.append(Argument(name, kind, says, parameter.default))
    return found


def record_of(verb) -> type:
    """The record that a verb answers with."""
    return _evaluated(verb, inspect.signature(verb).return_annotation)


def _evaluated(verb, annotation: str) -> object:
    return eval(annotation, vars(inspect.getmodule(verb)))  # of our own source


def checked(verb: str, arguments: list[Argument], given: dict) -> dict:
    """What a verb is called with. Unknown and missing names are the user's errors."""
    names = [argument.name for argument in arguments]
    for name in given:
        if name not in names:
            raise UserError(
                verb,
                f"arguments {', '.join(names)}" if names else "no arguments",
                repr(str(name)[:80]),
                _near(str(name), names),
            )
    missing = [argument for argument in arguments if argument.required and given.get(argument.name) is None]
    if missing:
        raise UserError(verb, f"the argument {missing[0].name}", "none", missing[0].says.text)
    return {
        argument.name: argument.checked(verb, given[argument.name]) for argument in arguments if argument.name in given
    }


def input_schema(arguments: list[Argument]) -> dict:
    return {
        "type": "object",
        "properties": {argument.name: argument.schema() for argument in arguments},
        "required": [argument.name for argument in arguments if argument.required],
        "additionalProperties": False,
    }


def text_of(value: str) -> str:
    """What a file can hold of a text: half a letter, which JSON can bring, is a question mark."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _number(value: object, kind: type) -> int | float | None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        return None
    if kind is float:
        return float(value)
    return int(value) if value == int(value) and abs(value) < 2**53 else None


def _setting(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{type(value).__name__} {text[:60]}..."


def _near(name: str, known) -> str:
    from ... import _core

    near = _core.nearest_name(name[:80], list(known)) if known else ""
    return f'did you mean "{near}"?' if near else "leave it out"
