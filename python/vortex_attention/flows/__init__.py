"""The ready flows, one file each. names() lists them; load() loads one of them, or a file."""

import functools
import importlib
import os
import pkgutil
from dataclasses import dataclass

from vortex_attention import _core


@functools.cache
def names() -> list[str]:
    """The names of the ready flows: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@functools.cache
def ready(name: str) -> _core.Program:
    """The program of a ready flow. Its file is part of this package, so it is traced in this process."""
    from vortex_attention.language.flow import trace, vFlow

    module = importlib.import_module(f"vortex_attention.flows.{name}")
    (cls,) = (
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, vFlow) and c.__module__ == module.__name__
    )
    return trace(cls)


@dataclass(frozen=True)
class LoadedFlow:
    """A flow with what a report wants to say about it."""

    name: str  # as it was asked for: the ready flow's name, or the file's name without .py
    program: _core.Program
    source: str  # the text of its file

    @property
    def doc(self) -> str:
        return self.program.doc

    @property
    def config(self) -> _core.FlowConfig:
        return self.program.config

    @property
    def hash(self) -> str:
        return self.program.hash


def load(name_or_path: str | os.PathLike, **settings) -> LoadedFlow:
    """A ready flow by name, or a flow file by path, with settings changed by keyword: load("quest", budget=64)."""
    from vortex_attention.language.loader import load_flow

    text = os.fspath(name_or_path)
    program = load_flow(text, **settings)
    path = os.path.join(__path__[0], text + ".py") if text in names() else text
    if not os.path.exists(path):
        path = text.rpartition(":")[0]
    with open(path, encoding="utf-8") as file:
        source = file.read()
    return LoadedFlow(os.path.basename(text).removesuffix(".py"), program, source)
