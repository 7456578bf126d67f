"""The ready flows, one file each, and flows by name or path: names() lists the ready ones, load_flow() loads one of them or
a file, load() with what a report says about it."""

import functools
import importlib
import os
from collections import namedtuple

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.language.flow import layers_text, set_library, setting_text, trace, vFlow
from vortex_attention.language.parameters import with_weights
from vortex_attention.language.loader import Loaded, read_file, source_of


@functools.cache
def names() -> list[str]:
    """The names of the ready flows: the files of this folder."""
    return sorted(file[:-3] for file in os.listdir(__path__[0]) if file.endswith(".py") and file != "__init__.py")


@functools.cache
def ready(name: str) -> _core.Program:
    """The program of a ready flow. Its file is part of this package, so it is traced in this process."""
    module = importlib.import_module(f"vortex_attention.flows.{name}")
    (cls,) = (
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, vFlow) and c.__module__ == module.__name__
    )
    return trace(cls)


set_library(names, ready)


def read_flow(flow: str | os.PathLike, trust_flow: bool = False, **settings) -> Loaded:
    """load_flow, with how the program came about: `sandbox` is None for a ready flow, whose file is part of this package."""
    text = os.fspath(flow)
    path, _, name = text.rpartition(":")
    if text in names():
        loaded = Loaded(ready(text), None)
    elif path.endswith(".py"):
        loaded = read_file(path, name, trust_flow, page_size_of(settings))
    elif os.path.exists(text) or text.endswith((".py", ".json", ".txt")) or os.sep in text:
        loaded = read_file(text, None, trust_flow, page_size_of(settings))
    else:
        shown = os.fsencode(text).decode(errors="replace")  # what a shell hands over need not be UTF-8
        near = _core.nearest_name(shown, names())
        raise UserError(
            "flow",
            f"the path of a flow file, or one of {', '.join(names())}",
            f'"{shown[:200]}"',
            f'did you mean "{near}"?' if near else "check the name",
        )
    layers, weights = settings.pop("layers", None), settings.pop("weights", None)
    changed = loaded.program
    if settings:
        changed = changed.with_settings({key: setting_text(value) for key, value in settings.items()})
    changed = with_weights(
        changed, weights, __path__[0] if text in names() else loaded.folder or os.path.dirname(path or text)
    )
    for which, other in _layers(layers).items():
        other = other if isinstance(other, _core.Program) else read_flow(other, trust_flow).program
        changed = changed.with_layers(layers_text(which), other)
    return loaded._replace(program=changed)


def _layers(layers: dict | str | None) -> dict:
    """Layers that a caller gives flows of their own: a dictionary, or "0-3:streaming,5:quest"."""
    if isinstance(layers, dict) or layers is None:
        return layers or {}
    pairs = [pair.partition(":") for pair in layers.split(",")]
    if not all(which.strip() and flow.strip() for which, _, flow in pairs):
        raise UserError(
            "layers", "pairs LAYERS:FLOW such as 0-3:streaming,5:quest", f"{layers!r}"[:80], "write them like that"
        )
    return {which.strip(): flow.strip() for which, _, flow in pairs}


def load_flow(flow: str | os.PathLike, trust_flow: bool = False, **settings) -> _core.Program:
    """A flow by the name of a ready one, by path ("quest.py", or "several.py:Quest"), with settings changed by keyword. A file runs
    in a sandbox, or with `trust_flow` with the rights of this process."""
    return read_flow(flow, trust_flow, **settings).program


def page_size_of(settings: dict) -> int | None:
    """The page_size that a caller sets, for files that are traced for one; what is no number is refused with the other settings."""
    text = str(settings.get("page_size", ""))
    return int(text) if text.isascii() and text.isdigit() and 1 <= int(text) <= 4096 else None


class LoadedFlow(
    namedtuple(
        "LoadedFlow",
        (
            "name",  # as it was asked for: the ready flow's name, or the file's name without .py
            "program",
            "source",  # the text of its file
        ),
    )
):
    """A flow with what a report wants to say about it."""

    __slots__ = ()

    @property
    def doc(self) -> str:
        return self.program.doc

    @property
    def config(self) -> _core.FlowConfig:
        return self.program.config

    @property
    def hash(self) -> str:
        return self.program.hash


def load(name_or_path: str | os.PathLike, trust_flow: bool = False, **settings) -> LoadedFlow:
    """A ready flow by name, or a flow file by path, with settings changed by keyword: load("quest", budget=64)."""
    text = os.fspath(name_or_path)
    program = load_flow(text, trust_flow, **settings)
    path = os.path.join(__path__[0], text + ".py") if text in names() else text
    if not os.path.exists(path):
        path = text.rpartition(":")[0]
    name = os.path.basename(text).removesuffix(".py").removesuffix(".json")
    return LoadedFlow(name, program, source_of(path))


def renamed(flow: LoadedFlow, name: str) -> LoadedFlow:
    """The same flow under another name: two settings of one beside each other."""
    return flow._replace(name=name)


def load_at(text: str, **settings) -> LoadedFlow:
    """load() of FLOW, or of FLOW@BUDGET, which goes by that name."""
    path, at, budget = text.rpartition("@")
    if at and not budget.isdigit():
        raise UserError("flows", "NAME@BUDGET with a whole number of pages", f'"{text}"', "for example quest@64")
    flow = load(path or text, **(settings | ({"budget": budget} if at else {})))
    return renamed(flow, f"{flow.name}@{budget}") if at else flow
