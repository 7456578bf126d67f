"""What pyproject.toml says of the package agrees with what it imports, with the pins and with the other files that say it."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import vortex_attention as vx

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return {canonical(line.split("==")[0]): line.split("==")[1] for line in lines if line and not line.startswith("#")}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def test_dependencies_are_what_is_imported():
    imported = set()
    for path in (ROOT / "python" / "vortex_attention").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    imported = {name for name in imported if not name.startswith("_")}  # the interpreter's own, of whatever version
    others = imported - set(sys.stdlib_module_names) - {"vortex_attention"}
    extras = names([package for group in PROJECT["project"]["optional-dependencies"].values() for package in group])
    assert {canonical(name) for name in others} - extras == names(PROJECT["project"]["dependencies"])


def test_every_package_is_pinned_once():
    run, test, wheel = pins("requirements.txt"), pins("requirements-test.txt"), pins("requirements-wheel.txt")
    assert names(PROJECT["project"]["dependencies"]) <= set(run)
    assert not set(run) & set(test)
    for requirement in PROJECT["build-system"]["requires"]:
        name, version = requirement.split("==")
        assert wheel[canonical(name)] == version
    assert all(run.get(name, version) == version for name, version in wheel.items())


def test_one_version():
    stated = re.search(r"project\(vortex VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
    assert stated == vx.__version__ == PROJECT["project"]["version"]
