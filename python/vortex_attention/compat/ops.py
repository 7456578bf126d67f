"""The ops that both sides of a flow have, each as the class vortex_torch gives it: the settings and their defaults, odd ones
included, are those of its catalogue. An op may be used again: what it made before stays.

indexer.py and cache.py bind them to their side and add their own.
"""

import numbers

from vortex_attention import _core
from vortex_attention.compat.sizes import Number, Size
from vortex_attention.compat.tensor import Session, Stored, Tensor, aligned, elementwise, same_size, tensor
from vortex_attention.compat.weights import Parameter
from vortex_attention.errors import UserError
from vortex_attention.language import place
from vortex_attention.language.value import FUNCTIONS

NOTHING = -1e30  # what a Where op adds to the score of a page that is out


class Context:
    """ctx: handed through, never looked into."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise UserError(
            place.text(),
            "ctx is passed on to the ops; a flow does not look into it",
            f"ctx.{name}",
            "leave it out; budgets and reserved blocks are settings",
        )


class Location:
    """loc: handed through to the ops of forward_cache."""


def refuse(required: str, came: str, todo: str):
    raise UserError(place.text(), required, came, todo)


def setting(name: str, value, what: str):
    """A number a flow gives to an op."""
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, Size, Number)):
        refuse(f"{what} takes a number as {name}", f"{type(value).__name__} {value!r}"[:80], "give a number")
    return value


class Op:
    """An instance of an op. A subclass says how many tensors it takes and what it makes of them."""

    side = ""  # "indexer" or "cache", set where the op is bound
    arity = 1

    def __init__(self):
        pass

    @property
    def spoken(self) -> str:
        return f"{type(self).__name__} of vortex_torch.{self.side}"

    def __call__(self, *arguments, ctx=None, loc=None, output=None):
        session = Session.current
        method = "forward_cache" if self.side == "cache" else "forward_indexer"
        if session is None or session.side != self.side:
            where = f"forward_{session.side}" if session is not None and session.side else "no method of a flow"
            near = "vortex_torch.cache" if self.side == "indexer" else "vortex_torch.indexer"
            refuse(f"{self.spoken} works in {method}", where, f"import the op of that name from {near}")
        operands = [argument for argument in arguments if not isinstance(argument, (Context, Location))]
        if self.side == "cache" and len(operands) == self.arity + 1 and output is None:
            output = operands.pop()
        if len(operands) != self.arity:
            refuse(
                f"{self.spoken} takes {self.arity} tensor{'s' if self.arity > 1 else ''}"
                + (" and the field it writes" if self.side == "cache" else ""),
                f"{len(operands)} tensors",
                "check its operands",
            )
        made = self.make(*(self.operand(operand) for operand in operands))
        if output is not None:
            if not isinstance(output, Stored):
                refuse(f"{self.spoken} writes into a field of create_cache", repr(output)[:80], 'give it cache["name"]')
            output.write(made)
        return made

    def operand(self, operand) -> Tensor:
        return tensor(operand, self.spoken)

    def make(self, *tensors: Tensor) -> Tensor:
        raise NotImplementedError

    def number(self, name: str):
        return Session.current.number(setting(name, getattr(self, name), self.spoken))


def check_dim(op: Op, dim, allowed: tuple):
    if dim not in allowed:
        where = ", ".join(map(str, allowed[:-1])) + (" or " if len(allowed) > 1 else "") + str(allowed[-1])
        todo = "reduce over blocks in forward_indexer" if op.side == "cache" and dim == 0 else f"say dim={allowed[0]}"
        refuse(f"{op.spoken} takes dim {where}", f"dim={dim!r}"[:80], todo)


class Reduce(Op):
    """Over D0 (dim=1) or D1 (dim=2), which becomes 1; the indexer's also over the blocks of a row (dim=0)."""

    op = ""

    def __init__(self, dim=1):
        check_dim(self, dim, (1, 2) if self.side == "cache" else (0, 1, 2))
        self.dim = dim

    def make(self, x):
        if self.dim != 0:
            return x.reduced(self.op, self.dim)
        require_ragged(self, x, "dim=0")
        return Tensor(FUNCTIONS[self.op](x.value, "page"), x.rows, x.cols)


def require_ragged(op: Op, x: Tensor, what: str):
    if not x.ragged:
        refuse(
            f"{op.spoken} with {what} runs over the blocks of a row, so it takes a tensor [S, ...]",
            repr(x),
            "give it one that is made of a cache field",
        )


class Mean(Reduce):
    op = "mean"


class Max(Reduce):
    op = "max"


class Min(Reduce):
    op = "min"


class Sum(Reduce):
    op = "sum"


class L2Norm(Reduce):
    """sqrt(Σ x²); no division by the size."""

    op = "norm"


class GeMM(Op):
    """y · xᵀ: out[s, a, b] = Σ_k y[s, a, k] · x[s, b, k]."""

    arity = 2

    def operand(self, operand):
        return operand if isinstance(operand, Parameter) and self.side == "indexer" else super().operand(operand)

    def make(self, x, y):
        if isinstance(x, Parameter):
            refuse(f"{self.spoken} takes a Parameter as its second operand", f"{x!r} as the first", "swap them")
        if isinstance(y, Parameter):
            y = y.beside(x, self.spoken)
        (_, k), (_, other) = x.sizes, y.sizes
        if not same_size(k, other):
            refuse(
                f"{self.spoken} multiplies along the last dimension, which both have alike",
                f"{x!r} and {y!r}",
                "transpose or reshape one of them",
            )
        if x.cols is None:  # both are columns: an outer product
            x, y, rows, cols = aligned(Tensor(x.value, None, x.rows), y, self.spoken)
            return Tensor(y.value * x.value, rows, cols)
        over, cols = x.cols, x.rows
        if cols is not None and cols == y.rows:
            cols = next(Session.current.names)
        x, y = x.renamed(cols, over), y.renamed(y.rows if y.rows != over else next(Session.current.names), over)
        return Tensor(FUNCTIONS["dot"](x.value, y.value, over), y.rows, cols)


class Multiply(Op):
    arity = 2

    def make(self, x, y):
        return elementwise("mul", x, y, self.spoken)


class Maximum(Op):
    arity = 2

    def make(self, x, y):
        return elementwise("maximum", x, y, self.spoken)


class Minimum(Op):
    arity = 2

    def make(self, x, y):
        return elementwise("minimum", x, y, self.spoken)


class Add(Op):
    """alpha · x + beta · y."""

    arity = 2

    def __init__(self, alpha=1.0, beta=1.0):
        self.alpha, self.beta = alpha, beta

    def make(self, x, y):
        x, y, rows, cols = aligned(x, y, self.spoken)
        return Tensor(scaled(x.value, self.number("alpha")) + scaled(y.value, self.number("beta")), rows, cols)


def is_number(number, wanted: float) -> bool:
    """Of a setting, which may be a value."""
    return isinstance(number, numbers.Real) and number == wanted


def scaled(value, factor):
    return value if is_number(factor, 1) else value * factor


class Where(Op):
    """0 where the comparison holds, else -1e30: a mask to add."""

    arity = 2
    compare, negated = "", False

    def make(self, x, y):
        x, y, rows, cols = aligned(x, y, self.spoken)
        holds = FUNCTIONS[self.compare](x.value, y.value)
        inside, outside = (NOTHING, 0.0) if self.negated else (0.0, NOTHING)
        return Tensor(FUNCTIONS["where"](holds, inside, outside), rows, cols)


class WhereEqual(Where):
    compare = "equal"


class WhereNotEqual(Where):
    compare, negated = "equal", True


class WhereGreater(Where):
    compare = "greater"


class WhereGreaterEqual(Where):
    compare = "greater_equal"


class WhereLess(Where):
    compare = "less"


class WhereLessEqual(Where):
    compare = "less_equal"


class Unary(Op):
    """A function of beta · x + alpha. The defaults are those of vortex_torch: Sigmoid() is the constant 1/2, Silu() is x/2."""

    default_beta = 0.0

    def __init__(self, alpha=0.0, beta=None):
        self.alpha, self.beta = alpha, type(self).default_beta if beta is None else beta

    def argument(self, x: Tensor, sign: float = 1.0):
        """beta · x + alpha, or its negative, as a value in the shape of x."""
        alpha, beta = sign * self.number("alpha"), sign * self.number("beta")
        if is_number(beta, 0):
            return x.filled(alpha)
        value = scaled(x.value, beta)
        return value if is_number(alpha, 0) else value + alpha


class Relu(Unary):
    """x where x >= alpha, else beta."""

    def make(self, x):
        alpha, beta = self.number("alpha"), self.number("beta")
        if is_number(alpha, 0) and is_number(beta, 0):
            return Tensor(FUNCTIONS["relu"](x.value), x.rows, x.cols)
        return Tensor(FUNCTIONS["where"](x.value >= alpha, x.value, beta), x.rows, x.cols)


class Sigmoid(Unary):
    """1 / (1 + exp(beta · x + alpha)): the logistic function has beta=-1."""

    def make(self, x):
        return Tensor(FUNCTIONS["sigmoid"](self.argument(x, -1.0)), x.rows, x.cols)


class Silu(Unary):
    """x / (1 + exp(beta · x + alpha)): SiLU has beta=-1."""

    def make(self, x):
        return Tensor(x.value * FUNCTIONS["sigmoid"](self.argument(x, -1.0)), x.rows, x.cols)


class Add_Mul(Unary):
    """beta · x + alpha."""

    default_beta = 1.0

    def make(self, x):
        return Tensor(self.argument(x), x.rows, x.cols)


class Abs(Add_Mul):
    def make(self, x):
        return Tensor(FUNCTIONS["abs"](self.argument(x)), x.rows, x.cols)


class Log(Add_Mul):
    def make(self, x):
        return Tensor(FUNCTIONS["log"](self.argument(x)), x.rows, x.cols)


class Exp(Add_Mul):
    def make(self, x):
        return Tensor(FUNCTIONS["exp"](self.argument(x)), x.rows, x.cols)


class MaskSlice(Op):
    """alpha on [start, end) of D0 (dim=1) or D1 (dim=2), beta elsewhere. The numbers of x are not read."""

    def __init__(self, start, end, dim, alpha=1.0, beta=0.0):
        check_dim(self, dim, (1, 2))
        for name, bound in (("start", start), ("end", end)):
            if isinstance(bound, bool) or not isinstance(bound, int):
                refuse(
                    f"{self.spoken} takes whole numbers as start and end",
                    f"{name}={bound}"[:80],
                    "say the number itself",
                )
        if not 0 <= start <= end:
            refuse(f"{self.spoken} needs 0 <= start <= end", f"start={start}, end={end}", "choose a run of the axis")
        self.start, self.end, self.dim, self.alpha, self.beta = start, end, dim, alpha, beta

    def make(self, x):
        alpha, beta, name = self.number("alpha"), self.number("beta"), x.axis(self.dim)
        if name is None:
            if self.end > 1:
                refuse(f"{self.spoken} stays inside the axis", f"end={self.end} of 1", "choose a shorter run")
            return Tensor(x.filled(alpha if self.start < self.end else beta), x.rows, x.cols)
        if self.start == self.end:
            return Tensor(x.filled(beta), x.rows, x.cols)
        FUNCTIONS["slice"](
            x.value, name, self.start, self.end
        )  # refuses a run past the end when the flow meets a model
        place_of = FUNCTIONS["cumsum"](x.filled(1.0), name)  # 1, 2, ... along the axis
        inside = place_of <= self.end
        if self.start > 0:
            inside = inside * (place_of > self.start)
        return Tensor(FUNCTIONS["where"](inside, alpha, beta), x.rows, x.cols)


class Reshape(Op):
    """[S, x1, y1] → [S, x2, y2] with as many elements, in the order of the rows."""

    def __init__(self, *sizes):
        sizes = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)) else sizes
        if len(sizes) != 3 or sizes[0] != -1:
            refuse(f"{self.spoken} takes -1 and two sizes", str(sizes)[:80], "say Reshape(-1, rows, columns)")
        for size in sizes[1:]:
            if isinstance(size, bool) or not isinstance(size, (int, Size)) or isinstance(size, int) and size < 1:
                refuse(
                    f"{self.spoken} takes whole sizes of at least 1", str(sizes)[:80], "say Reshape(-1, rows, columns)"
                )
        self.sizes = sizes[1:]

    def make(self, x):
        rows, cols = self.sizes
        if all(same_size(a, b) for a, b in zip(x.sizes, self.sizes)):
            return Tensor(x.value, x.rows, x.cols)
        one = [not isinstance(size, Size) and size == 1 for size in self.sizes]
        if x.rows is None or x.cols is None:
            value, axis = x.value, x.rows or x.cols
        else:
            value, axis = FUNCTIONS["merge"](x.value, x.rows, x.cols), x.rows
        came = 1 if axis is None else Tensor(value, axis, None).sizes[0]
        if all(one):
            fits = same_size(came, 1)
            wanted, result = 1, (None, None)
        elif any(one):
            wanted = cols if one[0] else rows
            fits, result = same_size(came, wanted), (None, axis) if one[0] else (axis, None)
        else:
            wanted = rows * cols
            fits, result = same_size(came, wanted), None
        if not fits:
            refuse(
                f"{self.spoken} keeps the number of elements of a tensor, as far as it is known before the flow meets a model",
                f"{x!r} to [-1, {rows}, {cols}]",
                "say sizes that multiply to those of the tensor",
            )
        if result is None:
            if isinstance(cols, Size):
                refuse(
                    f"{self.spoken} cuts runs of a known size",
                    f"[-1, {rows}, {cols}]",
                    "say the number of columns itself",
                )
            inner = next(Session.current.names)
            value, result = FUNCTIONS["split"](value, axis, inner, cols), (axis, inner)
        return Tensor(value, *result)


SHARED = [
    Mean, Max, Min, L2Norm, GeMM, Multiply, Add, Maximum, Minimum, Relu, Sigmoid, Silu, Add_Mul, Abs, Log, Exp, MaskSlice, Reshape,
    WhereEqual, WhereNotEqual, WhereGreater, WhereGreaterEqual, WhereLess, WhereLessEqual,
]  # fmt: skip


def bound(ops: list, side: str) -> dict[str, type]:
    """The ops as classes of one side, by name."""
    return {op.__name__: type(op.__name__, (op,), {"side": side, "__doc__": op.__doc__}) for op in ops}


def missing(module: str, known: dict, reasons: dict | None = None):
    """__getattr__ of a module: a name it does not have is refused with the nearest one."""

    def get(name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        if reasons and name in reasons:
            refuse(f"{module} as far as it maps onto the language", name, reasons[name])
        near = _core.nearest_name(name, list(known))
        refuse(
            f"{module} has {', '.join(known)}",
            name,
            f"did you mean {near}?" if near else "docs/compat.md lists what maps",
        )

    return get
