"""The wheels in dist/ as a user meets them: what is in them, and a fresh environment from `pip install` to a first checked
flow, text from a model, and a C++ program on the package. `./dev test wheel` builds them and runs this."""

import functools
import glob
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
WHEELS = sorted((ROOT / "dist").glob(f"vortex_attention-{VERSION}-*.whl"))
SECONDS = 60  # from nothing to a first checked flow, on a machine that is not busy with something else
ATTEMPTS = 3  # so often it is tried when the machine is
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VORTEX_DEBUG"))}

FLOW = """\
import vortex_attention as vx

class Mine(vx.vFlow):
    budget = 32
    def summarize(self, page):
        page.mean = page.k.mean("token")
    def score(self, q, page):
        return (q * page.mean).sum("dim").softmax("page").sum("head")
"""


@functools.cache
def interpreters() -> dict[int, str]:
    """{minor version: executable} of the CPythons here."""
    names = [f"python3.{minor}" for minor in range(11, 20)]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for candidate in [sys.executable, *filter(None, map(shutil.which, names)), *glob.glob(f"{versions}/*/bin/python3")]:
        probe = "import sys, venv, ensurepip; print(sys.version_info[1], sys._base_executable)"
        answer = subprocess.run([candidate, "-c", probe], capture_output=True, text=True)
        if answer.returncode == 0:
            minor, executable = answer.stdout.split()
            found.setdefault(int(minor), executable)
    return found


def fits(wheel: Path, minor: int) -> bool:
    return minor >= 12 if "-cp312-abi3-" in wheel.name else f"-cp3{minor}-cp3{minor}-" in wheel.name


PAIRS = [(wheel, minor) for wheel in WHEELS for minor in sorted(interpreters()) if fits(wheel, minor)]


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=ENVIRONMENT, **options)


def test_there_is_a_wheel_and_an_interpreter_for_each():
    assert WHEELS, "dist/ has none: run ./dev test wheel"
    assert {wheel for wheel, _ in PAIRS} == set(WHEELS)


@pytest.fixture(params=WHEELS, ids=lambda wheel: wheel.name.split("-")[3])
def wheel(request):
    return request.param


def test_what_is_in_it(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    inside = {name.removeprefix("vortex_attention/") for name in files if name.startswith("vortex_attention/")}
    package = ROOT / "python/vortex_attention"
    sources = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.*")
        if path.suffix not in (".so", ".pyi", ".pyc")
    }
    made = ("include/", "lib/", "licenses/", "_core")  # by the build
    assert {name for name in inside if name and not name.endswith("/") and not name.startswith(made)} == sources
    assert {f"include/vortex/{path.name}" for path in (ROOT / "include/vortex").glob("*.h")} <= inside
    assert {"_core.pyi", "lib/libvortex.so", "lib/cmake/vortex/vortex-config.cmake"} <= inside
    page = {f"ui/page/{name}" for name in ("index.html", "main.js", "style.css", "icon.svg")}
    assert (
        page <= inside and {path.relative_to(package).as_posix() for path in (package / "ui/page").iterdir()} <= inside
    )
    assert {"licenses/libhwy-dev.txt", "licenses/nlohmann-json3-dev.txt", "licenses/nanobind.txt"} <= inside
    assert len([name for name in files if name.endswith(".so") and "/_core" in name]) == 1
    assert not [name for name in files if re.search(r"\.(cpp|a|o|cu|cuh)$", name)]
    metadata = zipfile.ZipFile(wheel).read(f"vortex_attention-{VERSION}.dist-info/METADATA").decode()
    assert "License-File: LICENSE" in metadata


def test_auditwheel_agrees_with_its_tag(wheel):
    """The tag is what the symbols need; only libraries of the platform come from outside, and none of CUDA."""
    shown = subprocess.run([builder(), "-m", "auditwheel", "show", wheel], capture_output=True, text=True)
    words = " ".join(shown.stdout.split())
    tag = wheel.stem.split("-")[-1]
    assert f'consistent with the following platform tag: "{tag}"' in words
    outside = set(re.findall(r"(lib[\w.+-]+\.so[\w.]*) with versions", words))
    bundled = {name.split("/")[-1] for name in zipfile.ZipFile(wheel).namelist() if ".libs/" in name}
    assert outside - bundled <= {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6"}, outside
    assert "libcuda" not in words and "libnvrtc" not in words
    needed = tuple(map(int, re.search(r"manylinux_(\d+)_(\d+)", tag).groups()))
    assert needed <= tuple(map(int, platform.libc_ver()[1].split(".")))
    print(f"\n{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, auditwheel: {tag}")


def builder() -> str:
    """The interpreter of an environment that ./dev wheel made: it has auditwheel."""
    return sorted(glob.glob(f"{ROOT}/build-wheel/env-*/bin/python"))[0]


class Installed:
    """A wheel in a fresh environment, with the time that took from nothing to a first checked flow."""

    def __init__(self, wheel: Path, minor: int, folder: Path):
        self.folder = folder
        self.minor = minor
        self.wheel = wheel
        (folder / "mine.py").write_text(FLOW)
        for _ in range(ATTEMPTS):
            self.install()
            print(
                f"\nfrom nothing to a first checked flow: {self.seconds:.1f} s, {self.install_seconds:.1f} s of them installing"
            )
            if self.seconds <= SECONDS:
                break

    def install(self):
        shutil.rmtree(self.folder / "environment", ignore_errors=True)
        begin = time.monotonic()
        subprocess.run(
            [interpreters()[self.minor], "-m", "venv", self.folder / "environment"], check=True, env=ENVIRONMENT
        )
        pip = [
            self.python,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            "-q",
            self.wheel,
        ]
        installed = run(*pip)
        assert installed.returncode == 0, installed.stderr
        self.install_seconds = time.monotonic() - begin
        self.first = self.vortex("check", "mine.py")
        self.seconds = time.monotonic() - begin

    @property
    def python(self) -> Path:
        return self.folder / "environment" / "bin" / "python"

    def vortex(self, *arguments, **options):
        return run(self.folder / "environment" / "bin" / "vortex", *arguments, cwd=self.folder, **options)


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: f"{pair[0].name.split('-')[3]}-on-3.{pair[1]}")
def installed(request):
    with tempfile.TemporaryDirectory() as folder:
        yield Installed(*request.param, Path(folder))


def test_a_first_checked_flow_within_a_minute(installed):
    assert installed.first.returncode == 0, installed.first.stderr
    assert installed.first.stdout.startswith("mine.py: Mine is right")
    assert installed.seconds <= SECONDS


def test_ready_flows_and_mistakes(installed):
    ready = sorted(
        path.stem for path in (ROOT / "python/vortex_attention/flows").glob("*.py") if path.stem != "__init__"
    )
    checked = installed.vortex("check", *ready)
    assert checked.returncode == 0 and checked.stdout.count(" is right") == len(ready), checked.stderr
    (installed.folder / "wrong.py").write_text(FLOW.replace('"token"', '"tokens"'))
    wrong = installed.vortex("check", "wrong.py")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: [wrong.py:6]")


def test_cuda_is_loaded_when_asked_for_and_not_before(installed):
    """Without a driver the wheel works; asked for the device, it says what is missing."""
    script = """
import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.cli.app import main
assert main(["check", "quest"]) == 0
loaded = open("/proc/self/maps").read()
assert "_core" in loaded and "libcuda" not in loaded and "libnvrtc" not in loaded
try:
    print("DEVICE", _core.describe_device("cuda"))
except vx.MachineError as error:
    print("DEVICE", error)
"""
    answer = run(installed.python, "-c", script)
    assert answer.returncode == 0, answer.stderr
    words = answer.stdout.split("DEVICE ")[1]
    assert re.match(
        r"NVIDIA|\[device cuda\] (the NVIDIA driver \(libcuda.so.1\)|a list of devices|a build with the CUDA device)",
        words,
    ), words


def test_text_from_the_default_model(installed):
    """The model is fetched the first time, into the cache of this user."""
    plain = installed.vortex("generate", "The capital of France is", "--raw", "--max-tokens", "8")
    assert plain.returncode == 0 and "Paris" in plain.stdout, plain.stderr
    sparse = installed.vortex("generate", "The capital of France is", "--raw", "--max-tokens", "8", "--flow", "mine.py")
    assert sparse.returncode == 0 and sparse.stdout == plain.stdout, sparse.stderr  # the budget covers all pages


def test_a_cpp_program_on_the_package(installed):
    cmake_dir = installed.vortex("--cmake-dir").stdout.strip()
    build = installed.folder / "build"
    configured = run("cmake", "-S", ROOT / "examples/cpp", "-B", build, f"-Dvortex_DIR={cmake_dir}")
    assert configured.returncode == 0, configured.stderr
    built = run("cmake", "--build", build)
    assert built.returncode == 0, built.stdout + built.stderr
    program = run(build / "quest")
    assert program.returncode == 0, program.stderr
    *text, hash_line, mistake = program.stdout.splitlines()
    assert (
        mistake.startswith('[flow Quest] the value must have the axis "tokens";') and 'did you mean "token"?' in mistake
    )
    script = (
        "import sys; from vortex_attention import _core; p = _core.parse_flow(sys.argv[1]); p.verify(); print(p.hash)"
    )
    read = run(installed.python, "-c", script, "\n".join(text) + "\n")
    assert hash_line == f"hash {read.stdout.strip()}", read.stderr
