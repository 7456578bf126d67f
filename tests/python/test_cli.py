"""The command's frame: help, version, and how each kind of failure ends."""

import json
import subprocess
import sys
import types

import pytest
import vortex_attention as vx
from vortex_attention.cli import app


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


def test_an_unknown_command_and_an_unknown_option_are_the_users_mistake(failing):
    failed = vortex("generat")
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.startswith("error: [vortex] No such command 'generat'") and failed.stderr.count("\n") == 1
    assert vortex("--colour").returncode == 2
    assert failing(None, "--jsn") == 2


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


def test_interrupts_and_closed_pipes_are_quiet(failing, capsys):
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert failing(MemoryError()) == 3
    command = f"{sys.executable} -m vortex_attention --help | true"
    assert subprocess.run(["bash", "-c", command], capture_output=True, text=True).stderr == ""
