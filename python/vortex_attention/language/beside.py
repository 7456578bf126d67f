"""Modules that lie beside a flow file. Their text travels with the file's: a file that is traced reads nothing itself."""

import os
import re
import stat
import sys

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([A-Za-z_]\w*+)[ \t.\w]*import\b|import[ \t]+(.+))", re.MULTILINE)
MODULES, BYTES = 32, 1 << 20  # that come along at most
_OWN = {"vortex_attention", "vortex_torch", "numpy"}  # never those beside the file


def _names(source: str):
    for origin, several in _IMPORT.findall(source):
        for part in [origin] if origin else several.split(","):
            name = part.split()[0].partition(".")[0] if part.split() else ""
            if name.isidentifier() and name not in _OWN and name not in sys.stdlib_module_names:
                yield name


def gather(path: str, source: str) -> dict[str, str]:
    """Name → text of each NAME.py in the folder of `path` that the source imports, and those that these import."""
    found, queue, size = {}, [source], 0
    folder = os.path.dirname(path)
    while queue:
        for name in dict.fromkeys(_names(queue.pop())):
            file = os.path.join(folder, name + ".py")
            if name in found or len(found) == MODULES:
                continue
            try:
                if not stat.S_ISREG(os.stat(file).st_mode):
                    continue
                with open(file, encoding="utf-8") as opened:
                    text = opened.read(BYTES - size + 1)
            except (OSError, ValueError):
                continue  # the import fails where it stands
            size += len(text)
            if size > BYTES:
                return found
            found[name] = text
            queue.append(text)
    return found


class Finder:
    """Imports the modules of `gather` from their text: a finder and loader of the import system."""

    def __init__(self, path: str, sources: dict[str, str]):
        self.folder, self.sources = os.path.dirname(path), sources

    def find_spec(self, name, path, target=None):
        if path is not None or name not in self.sources:
            return None
        import importlib.machinery

        return importlib.machinery.ModuleSpec(name, self, origin=os.path.join(self.folder, name + ".py"))

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        import linecache

        source, origin = self.sources[module.__name__], module.__spec__.origin
        module.__file__ = origin
        linecache.cache[origin] = (len(source), None, source.splitlines(True), origin)
        exec(compile(source, origin, "exec"), module.__dict__)
