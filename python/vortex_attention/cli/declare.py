"""Options and arguments of commands as plain data, and the quick way to read them.

typer, which reads most command lines, takes a quarter of a second to start; `vortex check` is asked so often that it is read here.
Most commands write what they take as annotations, `Annotated[int, Option(help=...)]`; a quick one beside its function, `@plainly(batch=
Option(of=int))`, since even annotations take time. `quick` understands what is written plainly. All else, help and mistakes included, is
typer's: `for_typer` gives it the declarations.
"""


class Declared:
    """`of`: str, int, bool, or a list of one of them for what may be given several times; None where an annotation says it."""

    __slots__ = ("names", "positional", "of", "settings")

    def __init__(self, names: tuple[str, ...], positional: bool, of, settings: dict):
        self.names = names  # "--set"; none: the parameter's own
        self.positional = positional
        self.of = of
        self.settings = settings  # as typer takes them: help, min, max, metavar, callback


def Option(*names: str, of=None, **settings) -> Declared:
    return Declared(names, False, of, settings)


def Argument(of=None, **settings) -> Declared:
    return Declared((), True, of, settings)


def plainly(**declared: Declared):
    """Says what each parameter of a quick command takes."""

    def keep(command):
        command.declared = declared
        return command

    return keep


def _parameters(command):
    """Each parameter with its type and declaration, None where it has none."""
    import inspect
    import typing

    plain = getattr(command, "declared", {})
    hints = {} if plain else typing.get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        if declared := plain.get(name):
            kind = list[declared.of[0]] if isinstance(declared.of, list) else declared.of
            optional = typing.Optional[kind] if parameter.default is None else kind
            yield name, typing.Annotated[optional, declared], declared
            continue
        hint = hints.get(name, str)
        yield (
            name,
            hint,
            next((part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Declared)), None),
        )


def for_typer(command):
    """A command, or an app of commands, with its declarations as typer's."""
    import types
    import typing

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
    for name, hint, declared in _parameters(command):
        if declared is not None:
            kind = typer.Argument if declared.positional else typer.Option
            hint = typing.Annotated[typing.get_args(hint)[0], kind(*declared.names, **declared.settings)]
        function.__annotations__[name] = hint
    if made := getattr(command, "__signature__", None):  # of a command that was made from data
        parameters = [one.replace(annotation=function.__annotations__[one.name]) for one in made.parameters.values()]
        function.__signature__ = made.replace(parameters=parameters)
    return function


def _number(text: str, settings: dict) -> int | None:
    digits = text[1:] if text[:1] == "-" else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(text)
    return number if settings.get("min", number) <= number <= settings.get("max", number) else None


def quick(command, arguments: list[str]) -> dict | None:
    """The values of a quick command's parameters, or None where typer has to look."""
    code, defaults = command.__code__, command.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    values = dict.fromkeys(names) | dict(zip(names[len(names) - len(defaults) :], defaults))
    options, positional = {}, None
    for name, declared in command.declared.items():
        if declared.positional:
            positional = name
        else:
            for spelled in declared.names or ("--" + name.replace("_", "-"),):
                options[spelled] = (name, declared)
    given, rest = set(), []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            rest.append(word)
            continue
        spelled, equals, text = word.partition("=")
        if spelled not in options:
            return None
        name, declared = options[spelled]
        several = isinstance(declared.of, list)
        kind = declared.of[0] if several else declared.of
        if kind is bool:
            value = None if equals else True
        else:
            text = text if equals else next(words, "-")
            wrong = not equals and text.startswith("-")
            value = None if wrong else _number(text, declared.settings) if kind is int else text
        if value is None or (name in given and not several):
            return None
        values[name] = [*(values[name] if name in given else []), value] if several else value
        given.add(name)
    if positional is None or not rest:
        return None
    values[positional] = rest
    for name, declared in command.declared.items():
        if "callback" in declared.settings:
            values[name] = declared.settings["callback"](values[name])
    return values
