"""Loading flow files. A file is traced by another process, and only its IR comes back. Ready flows and names: see flows."""

import os
import stat
import sys
from collections import namedtuple

from vortex_attention import _core, printable
from vortex_attention.compat import config
from vortex_attention.errors import UserError
from vortex_attention.language import beside, traces
from vortex_attention.language.parameters import shapes_beside

_SOURCE_LIMIT = 256 << 10
trust_files = False  # of a command with --trust-flow: every file it loads


class Loaded(
    namedtuple(
        "Loaded",
        (
            "program",
            "sandbox",  # how its file was traced: "bubblewrap", "landlock", "none" for a trusted one; None: it is IR
            "printed",  # what the file printed, the beginning of it
            "kept",  # whether the file was traced before and did not run again
            "folder",  # where its file lies, and what lies beside it
            "unused",  # keys of a config that belong to another engine
        ),
        defaults=("", False, "", ()),
    )
):
    """The program of a file, and how it came about."""

    __slots__ = ()


def warm():
    """Starts the tracer process now, so that the first file is as quick as the next."""
    from vortex_attention.language import sandbox

    sandbox.server_for("warm", trust_files)


def _read(path: str) -> str:
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):  # opening one waits for its writer
            raise UserError(path, "a flow file", "a pipe", "write the flow to a file")
        with open(path, "rb") as file:
            data = file.read(_SOURCE_LIMIT + 1)
    except IsADirectoryError:
        raise UserError(path, "a flow file", "a folder", "name the file in it") from None
    except OSError as error:
        raise UserError(path, "a flow file that can be read", error.strerror or str(error), "check the path") from None
    if len(data) > _SOURCE_LIMIT:
        raise UserError(path, f"a flow file has at most {_SOURCE_LIMIT >> 10} KiB", "more", "is this the right file?")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UserError(path, "a flow file is UTF-8 text", "other bytes", "is this the right file?") from None


def _checked_answer(answer, path: str) -> tuple[str, str]:
    """What came from code that is not trusted: the text of a program, or the words of an error; and what it printed."""
    printed = answer.get("printed", "") if isinstance(answer, dict) else ""
    printed = printable.escaped(printed[:8192], lines=True) if isinstance(printed, str) else ""
    if isinstance(answer, dict) and isinstance(answer.get("text"), str):
        return answer["text"], printed
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, list) and len(error) == 5 and all(isinstance(part, str) for part in error):
        if printed:
            print(printed.rstrip("\n"), file=sys.stderr)
        raise UserError(*(part[:1000] for part in error[1:]))
    raise UserError(path, "the tracer answers with a program", "something else", "leave out what disturbs it")


def read_file(
    path: str | os.PathLike, name: str | None = None, trust_flow: bool = False, page_size: int | None = None
) -> Loaded:
    """The verified program of a flow file: Python, the IR as text or JSON, or a JSON config of vortex_torch. `name` chooses among several
    flows; `page_size` takes the place of a config's. `trust_flow`: run the file with the rights of this user, not in a sandbox."""
    path, settings, unused = os.fspath(path), {}, ()
    source = _read(path)
    if config.is_config(source):
        asked = config.read(source, path)
        path, name, settings, unused = asked.module_path, asked.module_name, asked.settings, tuple(asked.unused)
        source = _read(path)
    if page_size is not None:
        settings = settings | {"block_size": page_size}
    if source.startswith("vortex_ir"):
        return Loaded(_verified(source), None)
    if source.lstrip().startswith("{"):
        program = _core.parse_flow_json(source)
        program.verify()
        return Loaded(program, None)
    request = {"source": source, "path": path, "class": name, "settings": settings, "beside": beside.gather(path, source),
               "weights": shapes_beside(path, source)}  # fmt: skip
    loaded = _traced(request, path, trust_flow or trust_files)
    return loaded._replace(unused=unused, folder=os.path.dirname(path))


def source_of(path: str | os.PathLike) -> str:
    """The text that says what a flow file does: its own, or that of the file which a config names."""
    path = os.fspath(path)
    source = _read(path)
    return _read(config.read(source, path).module_path) if config.is_config(source) else source


def _verified(text: str) -> _core.Program:
    program = _core.parse_flow(text)
    program.verify()
    return program


def _traced(request: dict, path: str, trust: bool) -> Loaded:
    if not trust and (found := traces.find(request)):
        try:
            return Loaded(_verified(found[0]), found[1], kept=True)
        except UserError:  # a damaged file: it is traced again
            pass
    from vortex_attention.language import sandbox

    server = sandbox.server_for(path, trust)
    text, printed = _checked_answer(server.ask(request), path)
    if printed:
        print(printed.rstrip("\n"), file=sys.stderr)
    loaded = Loaded(_verified(text), server.way, printed)
    if not printed and not trust:
        traces.keep(request, text, server.way)
    return loaded


def load_file(
    path: str | os.PathLike, name: str | None = None, trust_flow: bool = False, page_size: int | None = None
) -> _core.Program:
    """The program of read_file."""
    return read_file(path, name, trust_flow, page_size).program
