"""Learned weights in flow files of vortex_torch: `safetensors.torch.load_file`, `Parameter`, and what they are in the language.

While a file is traced only the names and shapes of the tensors beside it are known; numbers are attached afterwards. A tensor
[layers, ...] has numbers for each layer, as there.
"""

import os

from vortex_attention import _core
from vortex_attention.compat.sizes import Size
from vortex_attention.compat.tensor import Session, Tensor, same_size
from vortex_attention.errors import UserError
from vortex_attention.language import place
from vortex_attention.language.value import FUNCTIONS, Value

files: dict[str, dict[str, list[int]]] = {}  # of the flow that is traced: file → tensor → shape


def _refuse(required: str, came: str, todo: str):
    raise UserError(place.text(), required, came, todo)


class Kept:
    """A tensor of a file: its name and shape."""

    def __init__(self, file: str, name: str, shape: list[int]):
        self.file, self.name, self.shape = file, name, tuple(shape)

    def __repr__(self) -> str:
        return f"{self.name} {list(self.shape)} of {self.file}"

    def __getattr__(self, name: str):
        if name in (
            "to",
            "cuda",
            "cpu",
            "contiguous",
            "float",
            "bfloat16",
            "half",
            "detach",
        ):  # numbers stay what they are
            return lambda *_, **__: self
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(
            "a tensor of a file goes into Parameter or LearnedQuery as it is", f".{name}", "store it as it is needed"
        )


class Tensors(dict):
    def __missing__(self, name):
        near = _core.nearest_name(str(name), list(self))
        _refuse(
            f"the file has {', '.join(list(self)[:8])}",
            f"{name!r}"[:80],
            f'did you mean "{near}"?' if near else "use one of them",
        )


def load_file(path, device=None) -> Tensors:
    """What safetensors.torch has under this name: the tensors of a file, by name."""
    name = os.path.basename(os.fspath(path))
    if name not in files:
        _refuse(
            "weights are a safetensors file beside the flow, whose name stands in its text",
            f"{os.fspath(path)!r}"[:80],
            'say load_file("weights.safetensors")',
        )
    return Tensors({tensor: Kept(name, tensor, shape) for tensor, shape in files[name].items()})


def _shape(kept, axes: int, what: str, example: str) -> tuple[int, ...]:
    """The last sizes of a tensor of a file, which may have one of layers before them."""
    if isinstance(kept, Parameter):
        kept = kept.kept
    if not isinstance(kept, Kept):
        _refuse(
            f"{what} takes a tensor of a safetensors file",
            f"{type(kept).__name__} {kept!r}"[:80],
            'say load_file("weights.safetensors")["w"]',
        )
    if len(kept.shape) not in (axes, axes + 1):
        _refuse(f"{what} takes a tensor {example}", repr(kept), "store it in that shape")
    return kept.shape[-axes:]


def read(kept: "Kept | Parameter", axes: str) -> Value:
    """The parameter of the program that holds a tensor."""
    kept = kept.kept if isinstance(kept, Parameter) else kept
    session = Session.current
    if session.weights not in (None, kept.file):
        _refuse("the weights of a flow are one file", f"{kept.file} beside {session.weights}", "join them")
    session.weights = kept.file
    session.trace.tracer.weights(kept.file)
    return session.trace.source("param", name=kept.name, axes=axes)


def no_lookup(what: str, layer_lookup):
    if layer_lookup is not None:
        _refuse(
            f"{what} has weights for every layer in the order of layers",
            f"layer_lookup={layer_lookup!r}"[:80],
            "leave it out, and store a tensor for all layers",
        )


class Parameter:
    """[layers, N, K] or [N, K], the second operand of a GeMM."""

    def __init__(self, value, layer_lookup=None):
        no_lookup("Parameter", layer_lookup)
        _shape(value, 2, "Parameter", "[layers, N, K] or [N, K]")
        self.kept = value.kept if isinstance(value, Parameter) else value

    def __repr__(self) -> str:
        return f"Parameter({self.kept!r})"

    def beside(self, x: Tensor, what: str) -> Tensor:
        """As a tensor [1, N, K] whose K is the D1 of x."""
        rows, columns = _shape(self, 2, what, "[layers, N, K] or [N, K]")
        size = x.sizes[1]
        axes, names = [], [None, None]
        of_dim = isinstance(size, Size) and same_size(size, Size({"dim": 1}))
        if rows > 1:
            axes.append("rows=dim" if of_dim and rows == columns else f"rows={rows}")
            names[0] = "rows"
        if of_dim:
            axes.append("dim")  # a model in which it is not so many is refused with the numbers
            names[1] = "dim"
        elif isinstance(size, Size) or size != columns:
            _refuse(
                f"{what} multiplies along the last dimension, which both have alike",
                f"{x!r} and {self.kept!r}",
                "store the parameter with as many columns",
            )
        elif columns > 1:
            axes.append(f"columns={columns}")
            names[1] = "columns"
        return Tensor(read(self, ", ".join(axes)), *names)


def learned_query(x: Tensor, wq, wk, scaling: float, what: str) -> Tensor:
    """scaling · Σ_h wk[h] (wq[h]ᵀ q_h) of the query [B, H, d], with wq and wk [layers, H, d, r]."""
    if (x.rows, x.cols) != ("head", "dim"):
        _refuse(f"{what} takes the query, [B, H, head_dim]", repr(x), "give it q")
    ranks = {_shape(w, 3, what, "[layers, H, d, r] or [H, d, r]")[-1] for w in (wq, wk)}
    if len(ranks) != 1:
        _refuse(f"{what} takes Wq and Wk of one rank", f"{wq!r} and {wk!r}", "store both with the same last size")
    axes = f"head, dim, rank={ranks.pop()}"
    low = FUNCTIONS["dot"](x.value, read(wq, axes), "dim")
    back = FUNCTIONS["dot"](low, read(wk, axes), "rank").sum("head")
    return Tensor(back if scaling == 1.0 else back * float(scaling), None, "dim")
