"""The suites by name, one file each. `make` builds one for a model."""

from __future__ import annotations

from ... import _core
from ...errors import UserError
from .context import Context

NAMES = ("needle", "ruler", "text", "drift", "reasoning", "screen")


def suite_class(name: str):
    """Of a suite's name; UserError names the nearest one."""
    if name == "needle":
        from .needle import NeedleSuite as chosen
    elif name == "ruler":
        from .ruler import RulerSuite as chosen
    elif name == "text":
        from .text import TextSuite as chosen
    elif name == "drift":
        from .drift import DriftSuite as chosen
    elif name == "reasoning":
        from .questions import ReasoningSuite as chosen
    elif name == "screen":
        from .screen import ScreenSuite as chosen
    else:
        near = _core.nearest_name(name, [*NAMES, "all"])
        raise UserError(
            "eval",
            f"a suite among {', '.join(NAMES)}, all, or a .jsonl file of prompts and answers",
            f'"{name}"',
            f'did you mean "{near}"?' if near else "choose one of them",
        )
    return chosen


def known_options(name: str) -> tuple[str, ...]:
    """What a suite may be told."""
    return suite_class(name).options


def require(name: str, **settings) -> None:
    """Refuses what `make` would refuse of names, options and a .jsonl file, before a model is loaded."""
    given = {key: value for key, value in settings.items() if value is not None}
    if name.endswith(".jsonl"):
        from .questions import JsonlSuite, read_rows

        _known("jsonl", JsonlSuite, given)
        read_rows(name)
    else:
        _known(name, suite_class(name), given)


def make(name: str, context: Context, **settings):
    """A suite by name, or for the path of a .jsonl file of {"prompt", "answer"}. settings: those not None are its own."""
    given = {key: value for key, value in settings.items() if value is not None}
    if name.endswith(".jsonl"):
        from .questions import JsonlSuite

        return JsonlSuite(context, path=name, **_known("jsonl", JsonlSuite, given))
    chosen = suite_class(name)
    return chosen(context, **_known(name, chosen, given))


def _known(name: str, suite, given: dict) -> dict:
    for key in given:
        if key not in suite.options:
            raise UserError(
                "eval",
                f"options of the suite {name}: {', '.join('--' + option for option in suite.options)}",
                f"--{key}",
                "leave it out",
            )
    return given
