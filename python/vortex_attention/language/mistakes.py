"""What an exception out of a flow's own code means to its author: the line, and the words that help."""

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.language.value import FUNCTIONS, TENSORS, Value

OPS_OF_THE_LANGUAGE = 'write it with the ops of the language: page.k.mean("token"), x.exp(), vx.maximum(a, b)'
_REACHES_OUT = "a flow file computes and no more: it opens no files and no sockets, starts no processes and no threads"


def _correction(error: Exception) -> str:
    """The nearest name, when a name was wrong."""
    name, owner = getattr(error, "name", None), getattr(error, "obj", None)
    if getattr(owner, "__name__", None) in FUNCTIONS and callable(owner):  # page.k.abs.sum("dim")
        return f"an op is called: .{owner.__name__}().{name}"
    near = _core.nearest_name(name, dir(owner)) if isinstance(name, str) and owner is not None else ""
    return f'did you mean "{near}"?' if near else "correct this line"


def _wrong_import(name: str) -> str:
    if name in TENSORS:
        return OPS_OF_THE_LANGUAGE
    if name in ("vortex", "vortex_attn", "vx"):
        return "write import vortex_attention as vx"
    return "a flow file may import the standard library, NumPy, and the modules beside it"


def spoken(error: BaseException) -> str:
    """Its kind, and its words where it has some."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")[:300]


def explained(error: Exception, where: str, required: str) -> UserError:
    """`required` is what the code was to do, where nothing more fitting is known."""
    came, text = spoken(error), str(error)
    if isinstance(error, RecursionError):
        return UserError(where, "a flow must end", "calls nested too deep", "does a function call itself without end?")
    if isinstance(error, OSError) or "can't start new thread" in text:
        return UserError(
            where, _REACHES_OUT, came, "leave it out; write numbers into the file, or into a module beside it"
        )
    if isinstance(error, ImportError) and ("Operation not permitted" in text or "failed to map segment" in text):
        return UserError(where, _REACHES_OUT, f"a module of machine code, {error.name or text[:80]}", "leave it out")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return UserError(where, required, came, _wrong_import(error.name.partition(".")[0]))
    if (
        isinstance(error, TypeError) and "Tensor" in text and Value.__name__ in text
    ):  # torch.exp(page.k), of a trusted file
        return UserError(where, "a value has no number while the flow is traced", came, OPS_OF_THE_LANGUAGE)
    if isinstance(error, NameError) and error.name == "vx":
        return UserError(where, required, came, "write import vortex_attention as vx at the top")
    return UserError(where, required, came, _correction(error))
