"""`vortex study ...`: the verbs of a study, for humans and, with --json, for machines. Made from the verbs' own annotations: an argument that
must be given stands by its place, the others are options. `work` measures what was submitted."""

from __future__ import annotations

import inspect
import json as json_module
import os
import sys
from typing import Annotated, Optional

import typer

from vortex_attention.cli import options
from vortex_attention.discover import verbs
from vortex_attention.printable import escaped

study = typer.Typer(help="Hand flows into a study, have them measured, ask what came out.", no_args_is_help=True)

Name = Annotated[str, typer.Option("--study", help="The study of the ledger.")]
BY_PLACE = {"topic", "error", "b", "flow"}  # besides those that must be given


@study.command()
def work(
    name: Name = "first",
    idle: Annotated[
        float, typer.Option(min=0.0, help="Seconds without anything to do after which it ends; 0: never.")
    ] = 0.0,
    ledger: options.LedgerFile = None,
    json: options.Json = False,
) -> None:
    """Measure what is submitted to a study, turn by turn, until Ctrl-C or nothing has come for --idle seconds."""
    from vortex_attention.cli import show
    from vortex_attention.discover.study import Study
    from vortex_attention.discover.worker import Worker, laboratory_of, present
    from vortex_attention.ledger import Ledger

    def told(turn, verdict) -> None:
        if verdict and json:
            print(
                json_module.dumps(
                    {
                        "proposal": turn.proposal.id,
                        "agent": turn.submission.agent,
                        "gate": turn.gate,
                        "status": verdict.status,
                        "seconds": verdict.seconds,
                    }
                ),
                flush=True,
            )
        elif verdict:
            print(
                escaped(
                    f"{turn.gate} of {turn.proposal.id} for {turn.submission.agent}: {verdict.status}, {verdict.reason}",
                    lines=True,
                ),
                flush=True,
            )

    with Ledger.open(options.ledger_file(ledger)) as opened, show.Reporter() as reporter:
        found = Study.open(opened, name)
        with present(found):
            Worker(found, laboratory_of(found, reporter), told=told).run(idle or float("inf"))


@study.command()
def schema(verb: Annotated[Optional[str], typer.Argument(help="One verb; all of them when not given.")] = None) -> None:
    """Print the JSON Schemas of what verbs take and answer."""
    from vortex_attention.errors import UserError

    if verb is not None and verb not in verbs.VERBS:
        raise UserError("study schema", f"one of {', '.join(verbs.VERBS)}", repr(verb), "leave it out for all")
    print(
        json_module.dumps(
            [verbs.schemas(name) for name in verbs.VERBS] if verb is None else verbs.schemas(verb), indent=1
        )
    )


def command_of(name: str):
    """A verb as a command: the same arguments, and where it works."""
    arguments = verbs.arguments(name)

    def command(**given) -> None:
        as_json, ledger, workers = given.pop("json"), given.pop("ledger"), not given.pop("no_worker", False)
        where = given["study"] if name == "begin" else given.pop("study")
        run(name, {key: value for key, value in given.items() if value is not None}, where, ledger, workers, as_json)

    parameters = [_parameter(argument) for argument in arguments]
    if name != "begin":
        parameters.append(_keyword("study", Name, "first"))
    if name in ("screen", "submit", "wait"):
        said = typer.Option(
            "--no-worker", help="Do not start a worker that outlives this command when none is at work."
        )
        parameters.append(_keyword("no_worker", Annotated[bool, said], False))
    parameters += [_keyword("ledger", options.LedgerFile, None), _keyword("json", options.Json, False)]
    command.__signature__ = inspect.Signature(
        sorted(parameters, key=lambda one: one.default is not inspect.Parameter.empty)
    )
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    command.__name__ = name.replace("-", "_")
    command.__doc__ = verbs.VERBS[name].__doc__ + "\n\n" + verbs.about(name)
    return command


def _parameter(argument) -> inspect.Parameter:
    says, base = argument.says, argument.base
    text = says.text[0].upper() + says.text[1:] + "."
    if says.file:
        text = "A .py file or file.py:Class, a file of IR, a ready flow's name, or - for standard input."
    kind, default = (
        {list[int]: Optional[list[int]], dict[str, str]: Optional[list[str]]}.get(base, Optional[base]),
        None,
    )
    if argument.required:
        return _keyword(argument.name, Annotated[base, typer.Argument(help=text)], inspect.Parameter.empty)
    if argument.name in BY_PLACE:
        return _keyword(argument.name, Annotated[Optional[base], typer.Argument(help=text)], None)
    if base is bool:
        return _keyword(argument.name, Annotated[bool, typer.Option(f"--{argument.name}", help=text)], False)
    flag = (
        "--set"
        if base == dict[str, str]
        else "--class"
        if argument.name == "name"
        else f"--{argument.name.replace('_', '-')}"
    )
    if argument.default not in (None, "", [], {}):
        text = f"{text[:-1]}; {argument.default} when not given."
    if base == dict[str, str]:
        text = f"NAME=VALUE, may be given several times: {text}"
    return _keyword(argument.name, Annotated[kind, typer.Option(flag, help=text)], default)


def _keyword(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def run(name: str, given: dict, where: str, ledger: str | None, workers: bool, as_json: bool) -> object:
    """A verb with arguments of the command line; prints its record."""
    from vortex_attention.cli import records
    from vortex_attention.discover.verbs.desk import Desk
    from vortex_attention.discover.verbs.records import to_json
    from vortex_attention.ledger import Ledger

    if given.get("flow"):
        given["flow"], cls = flow_text(given["flow"])
        if cls:
            given.setdefault("name", cls)
    if given.get("settings"):
        given["settings"] = options.overrides_of(given["settings"], None)
    for argument in verbs.arguments(name):  # an empty repetition is none
        if given.get(argument.name) == [] or given.get(argument.name) == {}:
            del given[argument.name]

    def progress(done: float, of: float, what: str) -> None:
        if not as_json:
            print(escaped(f"[{done:.0f}/{of:.0f}] {what}", lines=True), file=sys.stderr, flush=True)

    with Ledger.open(options.ledger_file(ledger)) as opened:
        desk = Desk(opened, where, agent=os.environ.get("USER") or "user", workers=workers, progress=progress)
        record = verbs.call(desk, name, given)
    if as_json:
        print(json_module.dumps(to_json(record)))
    else:
        records.show(record)
    return record


def flow_text(value: str) -> tuple[str, str | None]:
    """What is handed in for a FLOW of the command line: a text, or the name of a ready flow; and the class that is named."""
    from vortex_attention.compat import config
    from vortex_attention.flows import load_flow, names
    from vortex_attention.language.loader import source_of

    if value in names():
        return value, None
    if value == "-":
        return sys.stdin.read((256 << 10) + 1), None
    path, _, cls = value.rpartition(":")
    if not path.endswith(".py"):
        path, cls = value, ""
    text = source_of(path)
    with open(path, encoding="utf-8", errors="replace") as file:
        if config.is_config(file.read(256 << 10)):
            return load_flow(path).text(), None
    return text, cls or None


for _name in verbs.VERBS:
    if _name != "publish":  # a command of its own
        study.command(_name)(command_of(_name))
