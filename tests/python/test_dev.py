"""./dev: what it says when something is missing or wrong, two set-ups at once, and interruption. The set-up runs in a
folder of the test's own, with no packages to install, so no network is used."""

import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments, **options):
    return subprocess.run(
        [ROOT / "dev", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
    )


def test_help_names_every_command():
    text = run("help").stdout
    for command in ("run", "test", "build", "vortex", "bench", "format", "wheel", "gpu", "setup"):
        assert f"./dev {command}" in text


def test_unknown_words_are_refused():
    for arguments, words in [
        (["tset"], "[dev] required: a command that ./dev help lists; got 'tset'\n"),
        (
            ["test", "fast"],
            "[dev] required: a suite: all, tiny, cpp, python, asan, ubsan, tsan, aarch64, wheel, random; got 'fast'\n",
        ),
        (["build", "fast"], "[dev] required: a preset: release, debug, asan, ubsan, tsan, cuda, aarch64; got 'fast'\n"),
        (["wheel", "python2"], "[dev] required: a Python 3.11 or newer with venv and headers; got 'python2'\n"),
        (["gpu", "fly"], "[dev] required: ./dev gpu build, test or sanitize; got 'fly'\n"),
    ]:
        answer = run(*arguments)
        assert (answer.returncode, answer.stderr) == (2, words)


def test_without_root_the_missing_packages_come_as_one_list(tmp_path):
    """On a path that has neither cmake nor ninja nor a compiler, and as a user who is not root."""
    for tool in ("dirname", "cat"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    answer = run("setup", env={"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert answer.returncode == 1 and answer.stdout == ""
    first, second, third = answer.stderr.splitlines()[:3]
    assert first.startswith("[dev] these Debian packages are missing: cmake ninja-build g++")
    assert second == "[dev] install them, then run ./dev again:"
    packages = first.removeprefix("[dev] these Debian packages are missing: ")
    assert third == f"    sudo apt-get update && sudo apt-get install --no-install-recommends {packages}"


@pytest.fixture
def shell(tmp_path):
    """shell(commands): a process that has sourced tools/setup.sh in a folder with an empty list of Python packages."""
    (tmp_path / "requirements.txt").write_text("")

    def start(commands):
        script = f'set -euo pipefail; root="$PWD"; source "{ROOT}/tools/setup.sh"; {commands}'
        return subprocess.Popen(
            ["bash", "-c", script], cwd=tmp_path, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, "PIP_NO_INDEX": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a check that runs in the background ignores it
        )  # fmt: skip

    start.folder = tmp_path
    return start


def test_two_set_ups_at_once_wait_for_each_other(shell):
    (shell.folder / ".cache").mkdir()
    with open(shell.folder / ".cache" / "setup.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = shell("lock_setup; echo mine; unlock_setup; echo free; sleep 60 & sleep 0.1")
        assert process.stdout.readline() == "[dev] another ./dev is setting up this checkout; waiting for it\n"
    assert process.stdout.readline() == "mine\n"
    assert process.stdout.readline() == "free\n"
    with open(shell.folder / ".cache" / "setup.lock", "w") as lock:  # what runs after the set-up does not hold the lock
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()


@pytest.mark.slow
def test_the_environment_is_made_once_and_anew_when_it_was_not_finished(shell):
    output, _ = (process := shell("setup_python")).communicate()
    assert process.returncode == 0 and "installing the pinned Python packages into .venv" in output
    output, _ = shell("setup_python").communicate()
    assert output == ""
    stamp = shell.folder / ".venv" / ".stamp"
    text = stamp.read_text()
    stamp.unlink()
    (shell.folder / ".venv" / "half").write_text("left by an interrupted installation")
    shell("setup_python").communicate()
    assert stamp.read_text() == text and not (shell.folder / ".venv" / "half").exists()


@pytest.mark.slow
def test_an_interruption_leaves_nothing_broken(shell):
    process = shell("setup_python")
    while not (shell.folder / ".venv" / "bin").exists():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130
    assert "[dev] interrupted; nothing is broken, the same command goes on from here" in output
    assert not (shell.folder / ".venv" / ".stamp").exists()
    output, _ = (process := shell("setup_python")).communicate()
    assert process.returncode == 0 and (shell.folder / ".venv" / ".stamp").exists()


@pytest.mark.slow
def test_packages_that_cannot_be_installed(shell):
    (shell.folder / "requirements.txt").write_text("vortex-no-such-package==1.0\n")
    output, _ = (process := shell("setup_python")).communicate()
    assert process.returncode == 1
    assert output.endswith(
        "[dev] error: the Python packages could not be installed; pip's lines above say why (no network? full disk?), then run ./dev again\n"
    )
    assert not (shell.folder / ".venv" / ".stamp").exists()


def test_random_programs_are_spread_counted_and_shown_when_one_fails(tmp_path):
    script = ROOT / "tools" / "random_programs.sh"

    def programs(
        flows: str, hashes: str = 'echo "59 hashes of $VORTEX_RANDOM_PROGRAMS programs"'
    ) -> subprocess.CompletedProcess:
        for name, text in [("test_codegen", flows), ("test_ir", hashes)]:
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        return subprocess.run([script, tmp_path, "60", "3"], capture_output=True, text=True)

    good = programs('echo "17 compared, 2 overflow float32, 1 are chaotic"')
    assert (good.returncode, good.stderr) == (0, "")
    assert "CPU beside the interpreter: 51 programs equal, 6 overflow float32, 3 are chaotic" in good.stdout
    assert good.stdout.endswith("59 hashes of 60 programs\nnothing failed\n")
    for flows, hashes, said in [  # a filter that matches nothing ends with 0
        ("exit 0", 'echo "59 hashes of 60 programs"', "not every program of 60 was run"),
        ('echo "17 compared, 2 overflow float32, 1 are chaotic"', "exit 0", "the hashes were not compared"),
    ]:
        idle = programs(flows, hashes)
        assert (idle.returncode, idle.stderr) == (1, f"{said}\nsomething failed\n")
    bad = programs('[ "$GTEST_SHARD_INDEX" = 1 ] && { echo "seed 31, size 4: off by 2"; exit 1; }; exit 0')
    assert bad.returncode == 1 and "seed 31, size 4: off by 2" in bad.stdout and bad.stderr == "something failed\n"
    refused = subprocess.run([script, tmp_path, "many"], capture_output=True, text=True)
    assert (refused.returncode, refused.stderr) == (
        2,
        'error: [random programs] a whole number of programs; "many"; for example 200000\n',
    )
