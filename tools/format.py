"""Formats the C++ files with clang-format and the Python files with ruff; --check only names the files that differ."""

import pathlib
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parents[1]
binaries = pathlib.Path(sys.executable).parent


def tracked(*patterns: str) -> list[str]:
    output = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in output.stdout.splitlines() if (root / name).exists()]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(f"[format] no arguments or --check; got {' '.join(arguments)}", file=sys.stderr)
        return 2
    check = arguments == ["--check"]
    cpp = tracked("*.cpp", "*.h", "*.cu", "*.cuh")
    python = tracked("*.py")
    status = 0
    if cpp:
        mode = ["--dry-run", "-Werror"] if check else ["-i"]
        status |= subprocess.run([binaries / "clang-format", *mode, *cpp], cwd=root).returncode
    if python:
        mode = ["--check"] if check else []
        status |= subprocess.run([binaries / "ruff", "format", "-q", *mode, *python], cwd=root).returncode
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
