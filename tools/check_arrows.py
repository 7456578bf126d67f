"""Holds every include and import to the arrows between rooms; prints each violation with the line it stands on.

In C++ a room's permission is the DEPENDS list of its vortex_room(...) in src/ROOM/CMakeLists.txt, its tests have the same.
Device headers (.cuh, and what they include) reach only other device headers, of rooms their own may include. In Python a
package may import those of a lower layer, and of its own.

usage: check_arrows.py [FOLDER OF THE CHECKOUT]
"""

import ast
import pathlib
import re
import sys

# Arrows that no DEPENDS list may add.
FORBIDDEN = {
    "base": {"*"},
    "sandbox": {"ir", "compiler", "codegen", "device", "kernels", "attention", "kv", "models", "engine"},
    "ir": {"compiler", "codegen", "device", "kernels", "attention", "kv", "models", "engine"},
    "compiler": {"codegen", "device", "kernels", "attention", "kv", "models", "engine"},
    "device": {"ir", "compiler", "codegen", "kernels", "attention", "kv", "models", "engine"},
    "codegen": {"attention", "kv", "models", "engine"},
    "kernels": {"ir", "compiler", "codegen", "attention", "kv", "models", "engine"},
    "attention": {"kv", "models", "engine"},
    "kv": {"ir", "compiler", "codegen", "device", "kernels", "attention", "models", "engine"},
    "models": {"kv", "engine"},
    "engine": set(),
}
STANDARD_ONLY = {"base", "kv"}  # rooms without any library
PUBLIC_HEADERS = {  # include/vortex/NAME.h: the room that implements it
    "export.h": "base",
    "error.h": "base",
    "tensor.h": "ir",
    "flow.h": "ir",
    "compile.h": "compiler",
    "attention.h": "attention",
    "engine.h": "engine",
}
PYTHON_LAYERS = [  # a package may import from the lines above its own, and from its own
    {"errors", "_core", "cache", "fetch", "formats", "printable", "starting"},
    {"language", "compat", "sandbox"},
    {"flows"},
    {"models", "engine"},
    {"measure"},
    {"ledger"},
    {"serve", "bench", "eval", "report"},
    {"discover", "plugins"},
    {"ui"},
    {"cli"},
]
PYTHON_MODULES_ONLY = {
    "errors",
    "fetch",
    "printable",
    "starting",
    "language",
    "models",
    "engine",
}  # the front door, `import vortex_attention`, imports these

INCLUDE = re.compile(r"^\s*(?:#|%:)\s*(?:include|include_next|import)\b\s*(.*)$")
NAMED = re.compile(r'^([<"])([^>"]+)[>"]')
ROOM = re.compile(r"vortex_room\(\s*(\w+)(.*?)\)", re.DOTALL)


class Check:
    def __init__(self, root: pathlib.Path):
        self.root = root
        self.violations: list[str] = []
        self.permissions: dict[str, set[str]] = {}

    def fail(self, where: str, required: str, came: str) -> None:
        self.violations.append(f"[{where}] {required}; {came}")

    # --- C++ ---------------------------------------------------------------------------------------------------------

    def read_rooms(self) -> None:
        folders = sorted(path for path in (self.root / "src").iterdir() if path.is_dir())
        for folder in folders:
            build_file = folder / "CMakeLists.txt"
            where = build_file.relative_to(self.root).as_posix()
            match = ROOM.search(build_file.read_text()) if build_file.exists() else None
            if not match or match[1] != folder.name:
                self.fail(where, f"vortex_room({folder.name} ...)", "there is none")
                continue
            depends = re.search(r"\bDEPENDS\b([\w\s]*?)(?=\bLIBRARIES\b|\Z)", match[2])
            self.permissions[folder.name] = set(depends[1].split()) if depends else set()
        for room, depends in self.permissions.items():
            where = f"src/{room}/CMakeLists.txt"
            if room not in FORBIDDEN:
                self.fail(
                    where, "a room that tools/check_arrows.py knows", f"'{room}' is new: give it a line in FORBIDDEN"
                )
                continue
            for other in sorted(depends):
                if other not in self.permissions:
                    self.fail(where, f"a room, one of {', '.join(self.permissions)}", f"DEPENDS names '{other}'")
                elif "*" in FORBIDDEN[room] or other in FORBIDDEN[room]:
                    self.fail(where, f"no arrow from {room} to {other}", "DEPENDS has one")

    def check_cpp(self) -> None:
        for path in sorted((self.root / "src").rglob("*")):
            if path.suffix in (".h", ".cpp", ".cu", ".cuh") and path.is_file():
                self.check_file(path, path.relative_to(self.root / "src").parts[0])
        for path in sorted((self.root / "tests" / "unit").rglob("*")):
            if path.suffix in (".h", ".cpp", ".cu", ".cuh") and path.is_file():
                self.check_file(path, path.relative_to(self.root / "tests" / "unit").parts[0], test=True)
        for path in sorted((self.root / "include" / "vortex").glob("*")):
            if path.name in PUBLIC_HEADERS:
                self.check_file(path, PUBLIC_HEADERS[path.name])
            else:
                where = path.relative_to(self.root).as_posix()
                self.fail(
                    where,
                    "the room of each public header in PUBLIC_HEADERS of tools/check_arrows.py",
                    f"{path.name} has none",
                )

    def check_file(self, path: pathlib.Path, room: str, test: bool = False) -> None:
        device_headers = self.device_headers()
        for number, kind, name in self.includes(path):
            where = f"{path.relative_to(self.root).as_posix()}:{number}"
            if path in device_headers:
                self.check_device_include(where, path, room, kind, name)
            elif kind == "<" and name.startswith("vortex/"):
                target = PUBLIC_HEADERS.get(name.removeprefix("vortex/"))
                if target:
                    self.check_arrow(where, room, target, name)
            elif kind == "<":
                if room in STANDARD_ONLY and not test and "/" in name and not name.startswith("sys/"):
                    self.fail(where, f"{room} uses the standard library only", f"it includes <{name}>")
            elif (target := name.split("/")[0]) in self.permissions and (self.root / "src" / name).exists():
                self.check_arrow(where, room, target, name)
            elif test and ((path.parent / name).exists() or (self.root / "tests" / name).exists()):
                pass  # helpers of the tests
            else:
                self.fail(where, 'includes written from src/ as "ROOM/file.h"', f'"{name}" is not a file there')

    def check_arrow(self, where: str, room: str, target: str, name: str) -> None:
        if target != room and target not in self.permissions.get(room, set()):
            listed = ", ".join(sorted(self.permissions.get(room, set()))) or "nothing"
            self.fail(where, f"{room} includes only itself and its DEPENDS ({listed})", f"{name} belongs to {target}")

    def check_device_include(self, where: str, path: pathlib.Path, room: str, kind: str, name: str) -> None:
        target = self.find_device_header(path, name) if kind == '"' else None
        if target is None:
            self.fail(where, "device headers include only device headers of this checkout", f"it includes {name}")
        else:
            self.check_arrow(where, room, target.relative_to(self.root / "src").parts[0], name)

    def device_headers(self) -> set[pathlib.Path]:
        """The .cuh files and every header they reach."""
        if not hasattr(self, "_device_headers"):
            found, queue = set(), sorted((self.root / "src").rglob("*.cuh"))
            while queue:
                path = queue.pop()
                if path in found:
                    continue
                found.add(path)
                queue += [
                    target
                    for _, kind, name in self.includes(path)
                    if kind == '"' and (target := self.find_device_header(path, name))
                ]
            self._device_headers = found
        return self._device_headers

    def find_device_header(self, path: pathlib.Path, name: str) -> pathlib.Path | None:
        """Beside `path`, from src/, or the one file of that bare name in a cuda folder (NVRTC gets headers by bare name)."""
        for candidate in (path.parent / name, self.root / "src" / name):
            if candidate.is_file():
                return candidate.resolve()
        candidates = [] if "/" in name else list((self.root / "src").glob(f"*/cuda/{name}"))
        return candidates[0] if len(candidates) == 1 else None

    def includes(self, path: pathlib.Path):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := INCLUDE.match(line):
                named = NAMED.match(match[1])
                if not named:
                    self.fail(
                        f"{path.relative_to(self.root).as_posix()}:{number}",
                        "an include that names its file",
                        line.strip(),
                    )
                else:
                    yield number, named[1], named[2]

    # --- Python ------------------------------------------------------------------------------------------------------

    def check_python(self) -> None:
        package = self.root / "python" / "vortex_attention"
        layers = {name: layer for layer, names in enumerate(PYTHON_LAYERS) for name in names}
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package).with_suffix("").parts
            if parts in (("__init__",), ("__main__",)):  # the front doors see all
                continue
            where = path.relative_to(self.root).as_posix()
            if parts[0] not in layers:
                self.fail(
                    where,
                    "the layer of each package in PYTHON_LAYERS of tools/check_arrows.py",
                    f"'{parts[0]}' has none",
                )
                continue
            for line, name in imports(path, ("vortex_attention", *parts[:-1])):
                target = name.split(".")[1] if "." in name else ""
                if target not in layers:
                    if parts[0] in PYTHON_MODULES_ONLY:
                        came = f"{name} comes through the package's front door, which sees all layers"
                        self.fail(f"{where}:{line}", f"{parts[0]} imports from the modules themselves", came)
                elif layers[target] > layers[parts[0]]:
                    self.fail(
                        f"{where}:{line}",
                        f"{parts[0]} imports nothing of a higher layer",
                        f"{name} belongs to {target}",
                    )


def imports(path: pathlib.Path, package: tuple[str, ...]):
    """(line, full name) of each import of vortex_attention in the file, those inside functions and by name included."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "vortex_attention" else [module]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "__import__"):
                names = [str(node.args[0].value)]
        for name in names:
            if name.split(".")[0] == "vortex_attention":
                yield node.lineno, name


def check(root: pathlib.Path) -> list[str]:
    run = Check(root.resolve())
    run.read_rooms()
    run.check_cpp()
    run.check_python()
    return sorted(set(run.violations))


def main(arguments: list[str]) -> int:
    root = pathlib.Path(arguments[0]) if arguments else pathlib.Path(__file__).parents[1]
    violations = check(root)
    print("\n".join(violations) or "every include and import follows the arrows")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
