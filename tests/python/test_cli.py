"""The command's frame: help, version, and how each kind of failure ends."""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import types

import pytest
import vortex_attention as vx
from vortex_attention.cli import app


PYTHON = pathlib.Path(vx.__file__).parents[1]


def vortex(*arguments, **options):
    command = [sys.executable, "-m", "vortex_attention", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def failing(monkeypatch):
    """A command `vortex probe` that raises what the test puts into it."""
    probe = types.ModuleType("vortex_attention.cli.probe")
    probe.failure = None

    def command(json: bool = False):
        raise probe.failure

    probe.probe = command
    monkeypatch.setitem(sys.modules, "vortex_attention.cli.probe", probe)
    monkeypatch.setattr(app, "COMMANDS", [*app.COMMANDS, "probe"])

    def run(failure, *arguments):
        probe.failure = failure
        return app.main(["probe", *arguments])

    return run


def test_help_and_version():
    shown = vortex("--help")
    assert shown.returncode == 0 and "Usage: vortex" in shown.stdout
    assert all(name in shown.stdout for name in app.COMMANDS)
    shown = vortex("--version")
    assert (shown.returncode, shown.stdout) == (0, f"vortex {vx.__version__}\n")


def test_a_checkout_has_no_cmake_package():
    failed = vortex("--cmake-dir")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("error: [vortex --cmake-dir] the installed package with its C++ part; no ")


def test_an_unknown_command_and_an_unknown_option_are_the_users_mistake(failing):
    failed = vortex("generat")
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.startswith("error: [vortex] No such command 'generat'") and failed.stderr.count("\n") == 1
    assert vortex("--colour").returncode == 2
    assert failing(None, "--jsn") == 2


def test_without_a_command_the_names_there_are_are_given(capsys):
    assert app.main(["ledger"]) == 2
    words = (
        "error: [vortex ledger] a command of runs, show, export, retract, check; got none; see `vortex ledger --help`\n"
    )
    assert capsys.readouterr().err == words
    assert app.main([]) == 2
    assert capsys.readouterr().err.startswith("error: [vortex] a command of run, generate, bench, ")


@pytest.mark.parametrize("kind, code", [(vx.UserError, 2), (vx.MachineError, 3), (vx.InternalError, 4)])
def test_each_kind_of_failure_has_its_line_and_its_code(failing, capsys, kind, code):
    assert failing(kind("flow.py:3", "an axis of q", "'heads'", "did you mean 'head'?")) == code
    assert capsys.readouterr().err == "error: [flow.py:3] an axis of q; 'heads'; did you mean 'head'?\n"


def test_failures_as_json(failing, capsys):
    assert failing(vx.UserError("budget", "at least 1", "0", "raise it"), "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"] == {
        "kind": "UserError",
        "where": "budget",
        "required": "at least 1",
        "came": "0",
        "todo": "raise it",
        "message": "[budget] at least 1; 0; raise it",
    }


def test_what_nobody_foresaw_is_ours_and_names_its_place(failing, capsys):
    assert failing(ZeroDivisionError("division by zero")) == 4
    line = capsys.readouterr().err
    assert (
        line.startswith("error: [test_cli.py:")
        and "ZeroDivisionError: division by zero" in line
        and line.count("\n") == 1
    )


INTERRUPTED_WHILE_IMPORTED = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, *more):
        if name == "vortex_attention.language.value":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
"""


def test_an_interrupt_while_the_command_is_imported_is_quiet(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_WHILE_IMPORTED)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{PYTHON}"}
    # A check that runs in the background ignores Ctrl-C, and so would what it starts.
    listens = {"env": environment, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    ended = vortex("--version", **listens)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")
    script = tmp_path / "vortex"
    script.write_text("from vortex_attention.__main__ import main")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, **listens)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
    own = "try:\n import vortex_attention\nexcept KeyboardInterrupt: print('its own')"
    script.write_text(own)  # another program of that name
    for program in (["-c", own], [script]):
        ended = subprocess.run([sys.executable, *program], capture_output=True, text=True, **listens)
        assert ended.stdout == "its own\n"


@pytest.mark.parametrize("closed", ["2>/dev/full", "2>&-"])
def test_what_standard_error_does_not_take_changes_no_exit_code(closed):
    command = f"{shlex.quote(sys.executable)} -m vortex_attention nosuch {closed}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")


@pytest.mark.parametrize("to", ["| true", ">/dev/full"])
def test_an_error_in_json_that_standard_output_does_not_take_says_nothing_more(to):
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m vortex_attention check nosuch --json {to}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "")


def test_interrupts_and_closed_pipes_are_quiet(failing, capsys):
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert failing(MemoryError()) == 3
    command = f"{sys.executable} -m vortex_attention --help | true"
    assert subprocess.run(["bash", "-c", command], capture_output=True, text=True).stderr == ""


def test_a_message_is_one_line_whatever_a_flow_puts_into_it(tmp_path):
    (tmp_path / "mine.py").write_text("raise ValueError('a\\nerror: b\\x1b[31m')")
    failed = vortex("check", str(tmp_path / "mine.py"))
    assert (
        failed.returncode == 2
        and failed.stderr.count("\n") == 1
        and "ValueError: a error: b\\x1b[31m;" in failed.stderr
    )


def test_a_variable_that_means_nothing_is_reported(monkeypatch):
    monkeypatch.setenv("VORTEX_CASHE", "/tmp")
    shown = vortex("check", "quest")
    assert shown.returncode == 0
    assert (
        "warning: the environment variable VORTEX_CASHE is unknown and has no effect; did you mean VORTEX_CACHE?\n"
        in shown.stderr
    )


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("bench --rounds 0", "Invalid value for '--rounds': Input should be greater than or equal to 1"),
        ("bench --steps 0", "Invalid value for '--steps': Input should be greater than or equal to 1"),
        ("bench --batch 0", "Invalid value for '--batch': Input should be greater than or equal to 1"),
        ("eval --items 0", "Invalid value for '--items': Input should be greater than or equal to 1"),
        ("run --threads -1", "Invalid value for '--threads': Input should be greater than or equal to 0"),
        ("generate hi --seed -1", "Invalid value for '--seed': Input should be greater than or equal to 0"),
        ("generate hi --top-k 99999999999", "Invalid value for '--top-k': Input should be less than or equal to 2147483647"),
        ("check quest --context 99999999999999999999", "Invalid value for '--context': Input should be less than or equal to 1073741824"),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_the_users_mistake(capsys, arguments, words):
    assert app.main(arguments.split()) == 2
    assert words in capsys.readouterr().err
