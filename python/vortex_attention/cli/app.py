"""The list of commands, and how failures end: one clear line and an exit code that says whose they are.

A command is a module with a function of its own name. It imports nothing heavy at its top: `vortex --help` loads them
all. QUICK ones start without typer where their arguments are written plainly (declare.py).
"""

import errno
import importlib
import os
import sys

from vortex_attention import __version__, _core, printable, starting
from vortex_attention.errors import InternalError, MachineError, UserError, VortexError

COMMANDS = [
    "run",
    "generate",
    "bench",
    "eval",
    "discover",
    "study",
    "check",
    "explain",
    "picture",
    "fit",
    "trace",
    "ablate",
    "ledger",
    "report",
    "ui",
    "publish",
    "mcp",
]

USER, MACHINE, INTERNAL, INTERRUPTED = 2, 3, 4, 130
_EXIT_CODES = {UserError: USER, MachineError: MACHINE, InternalError: INTERNAL}
QUICK = ("check",)


def build(wanted: str | None = None):
    """The app of all commands, or of the wanted one alone, which starts sooner."""
    import typer

    from vortex_attention.cli.declare import for_typer

    app = typer.Typer(
        help="Sparse attention as a language, a compiler and a serving engine.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def _top(
        version: bool = typer.Option(False, "--version", help="Print the version and exit."),
        cmake_dir: bool = typer.Option(False, "--cmake-dir", help="Print the folder of CMake's find_package(vortex)."),
    ) -> None:
        if version:
            print(f"vortex {__version__}")
            raise typer.Exit()
        if cmake_dir:
            print(_cmake_dir())
            raise typer.Exit()

    for name in [wanted] if wanted in COMMANDS else COMMANDS:
        module = importlib.import_module(f"vortex_attention.cli.{name}")
        command = for_typer(getattr(module, name))
        if isinstance(command, typer.Typer):  # commands of its own
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _run_quickly(arguments: list[str]) -> bool:
    """Runs a quick command whose arguments are written plainly; else nothing, and False."""
    from vortex_attention.cli.declare import quick

    command = getattr(importlib.import_module(f"vortex_attention.cli.{arguments[0]}"), arguments[0])
    values = quick(command, arguments[1:])
    if values is None:
        return False
    command(**values)
    sys.stdout.flush()
    return True


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 done, 2 the user's mistake, 3 the machine's failure, 4 ours, 130
    Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    starting.begun()
    if sys.stdout is None:  # closed by who called us
        sys.stdout = open(os.devnull, "w")
    for line in _core.unknown_env():
        _say(f"warning: {printable.escaped(line)}")
    try:
        if arguments and arguments[0] in QUICK and _run_quickly(arguments):
            return 0
        code = build(arguments[0] if arguments else None)(arguments, prog_name="vortex", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer takes Ctrl-C itself
            _say("interrupted")
        return code if isinstance(code, int) else 0
    except VortexError as error:
        return _fail(error, "--json" in arguments)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _fail(
            MachineError("memory", "more memory than there is", "", "use smaller settings"), "--json" in arguments
        )
    except OSError as error:  # one that no command put into words: a full disk behind standard output, say
        if error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _fail(
                MachineError("output", "room to write to", os.strerror(error.errno), "free space, or write elsewhere"),
                False,
            )
        return _unforeseen(error, "--json" in arguments)
    except Exception as error:
        typer = sys.modules.get("typer")  # where it was needed, its own
        if typer is not None and isinstance(error, typer.Abort):
            _say("interrupted")
            return INTERRUPTED
        if typer is not None and isinstance(error, typer.BadParameter.__base__):
            return _misused(error, "--json" in arguments)
        return _unforeseen(error, "--json" in arguments)


def _misused(error, as_json: bool) -> int:
    """A command line that typer refuses."""
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        of = error.ctx.command
        required = f"a command of {', '.join(of.list_commands(error.ctx))}"
        return _fail(
            UserError(error.ctx.command_path, required, "got none", f"see `{error.ctx.command_path} --help`"), as_json
        )
    message = error.format_message()
    todo = f"see `{error.ctx.command_path} --help`" if error.ctx else "see `vortex --help`"
    return _fail(UserError("vortex", message.rstrip("."), "", todo), as_json) if message else USER


def _unforeseen(error: Exception, as_json: bool) -> int:
    """What no command foresaw is ours."""
    import traceback

    place = traceback.extract_tb(error.__traceback__)[-1]
    if os.environ.get("VORTEX_DEBUG", "0") != "0":
        traceback.print_exception(error)
    where = f"{os.path.basename(place.filename)}:{place.lineno}"
    came = f"{type(error).__name__}: {error}"
    todo = "this is a defect of Vortex, please report it (VORTEX_DEBUG=1 shows where)"
    return _fail(InternalError(where, "no such failure", came, todo), as_json)


def _cmake_dir() -> str:
    """The C++ package lies in the installed wheel; a checkout has none."""
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib", "cmake", "vortex")
    if not os.path.isdir(folder):
        todo = "install the wheel that ./dev wheel builds, or cmake --install a build with -DVORTEX_PACKAGE=ON"
        raise UserError("vortex --cmake-dir", "the installed package with its C++ part", f"no {folder}", todo)
    return folder


def _fail(error: VortexError, as_json: bool) -> int:
    kind = next((kind for kind in _EXIT_CODES if isinstance(error, kind)), InternalError)
    if as_json:
        import json

        parts = {name: getattr(error, name) for name in ("where", "required", "came", "todo")}
        try:
            print(json.dumps({"error": {"kind": kind.__name__, **parts, "message": str(error)}}), flush=True)
        except OSError:  # the reader has left, or there is no room: the exit code says the same
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        _say(f"error: {printable.escaped(error)}")
    return _EXIT_CODES[kind]


def _say(line: str) -> None:
    """On standard error, as far as it takes it: the exit code says the same."""
    if sys.stderr is None:  # closed by who called us
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        sys.stderr = open(os.devnull, "w")
