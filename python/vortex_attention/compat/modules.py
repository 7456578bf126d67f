"""The import names of vortex_torch, for the process that traces flow files. A finder answers `import vortex_torch...` with the modules
below, and `import torch` with names for annotations; whether such packages are installed makes no difference."""

import importlib
import importlib.abc
import importlib.machinery
import types

from vortex_attention.compat import cache, flow, indexer, weights
from vortex_attention.compat.ops import Context, missing, refuse
from vortex_attention.compat.tensor import Tensor
from vortex_attention.language.value import FUNCTIONS, REDUCING

PACKAGES = ("vortex_torch", "torch", "safetensors")
TORCH = "torch as far as annotations need it: Tensor, dtype, device and the names of element types"


class vOp:
    """The base class of ops: the catalogue is closed."""

    def __init_subclass__(cls):
        refuse(
            "the ops of a flow are those of vortex_torch.indexer and vortex_torch.cache",
            f"an op of its own, {cls.__name__}",
            "compose it of them",
        )


class _Named:
    """A name of torch or of vortex_torch that stands in annotations and settings."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


def _build_vflow(*_, **__):
    refuse("a flow file defines flows", "build_vflow(...)", "leave building to the command: vortex check file.py:name")


FORMATS = types.SimpleNamespace(
    **{name: _Named(f"FORMAT.{name}") for name in ("BATCHED", "RAGGED", "PAGED", "PARAMETER", "SLOTTED")}
)
ABS = {"ContextBase": Context, "vTensor": Tensor, "FORMAT": FORMATS, "vOp": vOp}
FLOW = {"vFlow": flow.vFlow, "vFlowMLA": flow.vFlowMLA, "register": flow.register, "build_vflow": _build_vflow}
INDEXER_PARTS = ("matmul", "reduce", "scan", "output_func", "select", "transpose", "elementwise", "elementwise_binary", "save_load", "mask", "kron", "reshape", "parameter", "learned_query", "context")  # fmt: skip
CACHE_PARTS = (
    "matmul",
    "reduce",
    "reduce_interleave",
    "elementwise",
    "elementwise_binary",
    "fill",
    "mask",
    "reshape",
    "context",
)
TYPES = ("float32", "float", "float16", "half", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "uint8", "int16", "int32", "int64", "long", "bool")  # fmt: skip


def _tables() -> dict[str, dict]:
    """Module → what it has. The reasons for what is missing are looked up by module."""
    torch = {"Tensor": Tensor, "dtype": _Named, "device": _Named, **{name: _Named(f"torch.{name}") for name in TYPES}}
    tables = {
        "vortex_torch": {},
        "vortex_torch.indexer": indexer.NAMES,
        "vortex_torch.cache": cache.NAMES,
        "vortex_torch.flow": FLOW,
        "vortex_torch.abs": ABS,
        "torch": torch,
        "safetensors": {},
        "safetensors.torch": {"load_file": weights.load_file},
    }
    tables |= {f"vortex_torch.indexer.{part}": indexer.NAMES for part in INDEXER_PARTS}
    tables |= {f"vortex_torch.cache.{part}": cache.NAMES for part in CACHE_PARTS}
    tables |= {f"vortex_torch.flow.{part}": FLOW for part in ("flow", "flow_mla", "registry", "loader")}
    tables |= {f"vortex_torch.abs.{part}": ABS for part in ("tensor", "context_base", "op")}
    return tables


_getters = {"vortex_torch.indexer": indexer.get_missing, "vortex_torch.cache": cache.get_missing}


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers for the names of the tables, and refuses other modules of these packages in words."""

    tables = _tables()

    def __init__(self, of_vortex_torch: bool = True):
        self.of_vortex_torch = of_vortex_torch  # whether the flow file is written for it

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in PACKAGES:
            return None
        if name not in self.tables:
            if name.startswith("torch") and not self.of_vortex_torch:
                _refuse_in_the_language(name.removeprefix("torch."))
            known = [table for table in self.tables if table.startswith("vortex_torch") and table.count(".") == 1]
            refuse(
                f"a flow file imports {', '.join(known)}",
                name,
                "leave it out" if name.startswith("torch") else "docs/compat.md lists what maps",
            )
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name, table = module.__name__, self.tables[module.__name__]
        parts = {part.rpartition(".")[2]: part for part in self.tables if part.rpartition(".")[0] == name}
        module.__dict__.update(table)
        module.__all__ = list(table)
        module.__path__ = []
        base = ".".join(name.split(".")[:2])

        def get(wanted: str):
            if wanted in parts:
                return importlib.import_module(parts[wanted])
            if name == "torch":
                return _torch(wanted, self.of_vortex_torch)
            return _getters.get(base, missing(name, {**table, **parts}))(wanted)

        module.__getattr__ = get


def _refuse_in_the_language(name: str):
    """In a flow that is not one of vortex_torch nothing of torch has a use."""
    own = f"x.{name}({'axis' if name in REDUCING else ''})" if name in FUNCTIONS else "x.exp()"
    refuse(
        "a flow is written with the ops of the language",
        f"torch.{name}",
        f'write {own}, page.k.mean("token") and the like; learned numbers are vx.param("name", axes)',
    )


def _torch(name: str, of_vortex_torch: bool):
    if name.startswith("__"):
        raise AttributeError(name)
    if not of_vortex_torch:
        _refuse_in_the_language(name)
    refuse(TORCH, f"torch.{name}", "use the ops of vortex_torch; learned weights belong in a file of their own")


def defined(module: types.ModuleType) -> dict[str, type]:
    """Name → class of the flows of this kind that a traced file defines: registered ones by both their names."""
    own = {
        cls.__name__: cls
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, flow.vFlow) and cls.__module__ == module.__name__
    }
    return own | flow.registered
