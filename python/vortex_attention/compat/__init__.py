"""Flow files and configs written for vortex_torch, traced into programs of the IR. See docs/compat.md.

Own code: a flow file that imports `vortex_torch` meets the modules of this folder under that name, inside the tracer process and
nowhere else. sizes: sizes that are known when the flow meets a model; tensor: rank-3 tensors over named axes; ops, indexer, cache:
the catalogue; flow: vFlow and register, and how such a class becomes a program; modules: the import names; config: the JSON.
"""

import contextlib

# How files of vortex_torch.flow itself import what stands beside and above them.
RELATIVE = r"(?m)^\s*from\s+\.+(flow|flow_mla|registry|indexer|cache|abs)\b"


@contextlib.contextmanager
def imports(module, source: str):
    """While a flow file runs and is traced, `import vortex_torch` finds the compatibility layer, also as a file of vortex_torch.flow itself says it."""
    import re
    import sys

    from vortex_attention.compat import flow, modules

    inside = re.search(RELATIVE, source) is not None
    finder = modules.Finder(inside or "vortex_torch" in source)
    flow.registered.clear()
    if inside:
        module.__package__ = "vortex_torch.flow"
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in modules.PACKAGES}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if name.partition(".")[0] in modules.PACKAGES:
                del sys.modules[name]
        sys.modules.update(hidden)


def is_flow(cls: type) -> bool:
    """Whether a class is a flow of vortex_torch."""
    from vortex_attention.compat.flow import vFlow

    return issubclass(cls, vFlow)


def trace(cls: type, settings: dict):
    """The program of a flow of vortex_torch."""
    from vortex_attention.compat.flow import trace_class

    return trace_class(cls, settings)
