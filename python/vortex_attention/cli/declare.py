"""Options and arguments of commands as plain data, and the quick way to read them.

typer, which reads most command lines, takes a quarter of a second to start; `vortex check` is asked so often that it is read here
from the same declarations. `quick` understands what is written plainly. All else, help and mistakes included, is typer's: `for_typer`
gives it the declarations.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing


@dataclasses.dataclass(frozen=True)
class Declared:
    names: tuple[str, ...]  # "--set"; none: the parameter's own
    positional: bool
    settings: dict  # as typer takes them: help, min, max, metavar, callback


def Option(*names: str, **settings) -> Declared:
    return Declared(names, False, settings)


def Argument(**settings) -> Declared:
    return Declared((), True, settings)


def _parameters(command):
    """Each parameter with its type and declaration, None where it has none."""
    hints = typing.get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints.get(name, str)
        declared = next((part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Declared)), None)
        yield name, parameter, hint, declared


def for_typer(command):
    """A command, or an app of commands, with its declarations as typer's."""
    import typer

    if isinstance(command, typer.Typer):
        for info in command.registered_commands:
            info.callback = for_typer(info.callback)
        for group in command.registered_groups:
            for_typer(group.typer_instance)
        return command
    function = types.FunctionType(
        command.__code__, command.__globals__, command.__name__, command.__defaults__, command.__closure__
    )
    function.__kwdefaults__, function.__doc__, function.__module__ = (
        command.__kwdefaults__,
        command.__doc__,
        command.__module__,
    )
    for name, _, hint, declared in _parameters(command):
        if declared is not None:
            kind = typer.Argument if declared.positional else typer.Option
            hint = typing.Annotated[typing.get_args(hint)[0], kind(*declared.names, **declared.settings)]
        function.__annotations__[name] = hint
    if made := getattr(command, "__signature__", None):  # of a command that was made from data
        parameters = [one.replace(annotation=function.__annotations__[one.name]) for one in made.parameters.values()]
        function.__signature__ = made.replace(parameters=parameters)
    return function


def _plain(hint) -> tuple[type, bool] | None:
    """(str, int or bool; whether it is a list) of a type, without None."""
    kind = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = [part for part in typing.get_args(kind) if part is not type(None)] or [None]
    several = typing.get_origin(kind) is list
    kind = typing.get_args(kind)[0] if several else kind
    return (kind, several) if kind in (str, int, bool) else None


def _number(text: str, settings: dict) -> int | None:
    digits = text[1:] if text[:1] == "-" else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(text)
    return number if settings.get("min", number) <= number <= settings.get("max", number) else None


def quick(command, arguments: list[str]) -> dict | None:
    """The values of a command's parameters, or None where typer has to look."""
    values, options, positional = {}, {}, None
    for name, parameter, hint, declared in _parameters(command):
        kind = _plain(hint)
        if declared is None or kind is None:
            return None
        values[name] = None if parameter.default is inspect.Parameter.empty else parameter.default
        if declared.positional:
            positional = name
        for spelled in (declared.names or ("--" + name.replace("_", "-"),)) if not declared.positional else ():
            options[spelled] = (name, *kind, declared.settings)
    given, rest = set(), []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            rest.append(word)
            continue
        spelled, equals, text = word.partition("=")
        if spelled not in options:
            return None
        name, kind, several, settings = options[spelled]
        if kind is bool:
            value = None if equals else True
        else:
            text = text if equals else next(words, "-")
            value = None if not equals and text.startswith("-") else _number(text, settings) if kind is int else text
        if value is None or (name in given and not several):
            return None
        values[name] = [*(values[name] if name in given else []), value] if several else value
        given.add(name)
    if positional is None or not rest:
        return None
    values[positional] = rest
    for name, parameter, _, declared in _parameters(command):
        if declared is not None and "callback" in declared.settings:
            values[name] = declared.settings["callback"](values[name])
    return values
