"""vTensor: a rank-3 tensor [S, D0, D1] of vortex_torch as a value of the language.

S is the axis "page" (RAGGED) or a row's own (BATCHED). D0 and D1 are named axes of the value, `rows` and `cols`; an axis of size 1 has
no name and is none. So transposes cost nothing, and what meets by place in vortex_torch meets by name here. Native torch is
understood where flows of the older line use it: reductions of the query with keepdim=True, and arithmetic.
"""

import itertools
import numbers
import re
import weakref
from fractions import Fraction

from vortex_attention import _core
from vortex_attention.compat.sizes import Number, Size, extent
from vortex_attention.errors import UserError
from vortex_attention.language import place
from vortex_attention.language.value import FUNCTIONS, Trace, Value

NATIVE = ("mean", "sum", "amax", "amin")


class Session:
    """What is known while one flow is traced."""

    current: "Session" = None

    def __init__(self, trace: Trace, page_size: int):
        self.trace, self.page_size = trace, page_size
        self.side = None  # "cache" or "indexer", while such a method runs
        self.names = (f"axis{number}" for number in itertools.count())
        self.taken: set[str] = set()  # names of summaries and states
        self.saved: set[str] = set()  # fields that Save writes
        self.weights: str | None = None  # the file of its parameters
        self.probing = False  # a first run, which finds them out
        self.result = None  # what the terminal op made: ("score", value) or ("set", value)
        Session.current = self

    def name_of(self, field: str) -> str:
        """A name for a summary or a state: that of the field, as far as it is one."""
        name = re.sub(r"[^A-Za-z0-9_]", "_", field)[:60]
        name = name if re.match(r"[A-Za-z_]", name) else f"_{name}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def count(self, size: Size) -> Value:
        """A size as a number of the program, counted along an axis that has it."""
        if set(size.terms) != {"dim"}:
            size._refuse("a number made of it")
        of = self.trace.source("page_k").max("token") if self.side == "cache" else self.trace.source("q").max("head")
        share = size.terms["dim"]
        return FUNCTIONS["where"](of, 1.0, 1.0).sum("dim") * float(share)

    def settled(self, made: "Tensor") -> "Tensor":
        """The same with the sizes that the block size decides as plain numbers, so that axes multiply and are cut anew."""
        value = made.value
        for name in filter(None, (made.rows, made.cols)):
            size = axes_of(value)[name]
            if f"{name}={size}" not in value.type and isinstance(size, int):
                inner = next(self.names)
                value = FUNCTIONS["split"](value, name, inner, size)  # one run, whose axis goes
                value = FUNCTIONS["rename"](FUNCTIONS["sum"](value, name), inner, name)
        return Tensor(value, made.rows, made.cols)

    def number(self, setting) -> "Value | float":
        """A setting of an op: a plain number, or one made of a size."""
        if isinstance(setting, Size):
            return self.count(setting)
        if isinstance(setting, Number):
            value = self.count(setting.size)
            return setting.factor * (value if setting.power == 1.0 else value**setting.power)
        return setting


def axes_of(value: Value) -> "dict[str, Size | int]":
    """Axis → size of a value, from its type."""
    inside = value.type.partition("[")[2].partition("]")[0]
    out = {}
    for axis in filter(None, inside.split(", ")):
        name, _, size = axis.partition("=")
        out[name] = extent(size or name, Session.current.page_size)
    return out


def same_size(a, b) -> bool:
    """Plain comparison: nothing is assumed of a size that the model decides. Keys and values may have as many channels."""
    if isinstance(a, Size) and isinstance(b, Size):
        return a.terms == b.terms or set(a.terms) | set(b.terms) == {"dim", "value_dim"}
    return not isinstance(a, Size) and not isinstance(b, Size) and a == b


class Tensor:
    """[S, D0, D1]: a value, and the names of its two inner axes (None: size 1)."""

    def __init__(self, value: Value, rows: str | None, cols: str | None):
        sizes = axes_of(value)
        for name in filter(None, (rows, cols)):
            if same_size(sizes[name], 1):
                value = FUNCTIONS["sum"](value, name)
                rows, cols = (None if rows == name else rows), (None if cols == name else cols)
        self._value, self.rows, self.cols = value, rows, cols
        self._uses = []  # a mark for each use
        self._change = None  # what an op made of this tensor, and whether somebody holds or has used it

    @property
    def value(self) -> Value:
        """The value. A softmax whose result nobody took has changed it in place, as in the older line of vortex_torch."""
        if self._change is not None:
            result, value, uses = self._change
            self._change = None
            if result() is None and not uses:
                self._value = value
        self._uses.append(True)
        return self._value

    def changed_by(self, result: "Tensor") -> "Tensor":
        """`result` was made of this tensor by an op that the older line runs in place."""
        self._change = (weakref.ref(result), result._value, result._uses)
        return result

    @property
    def ragged(self) -> bool:
        return "@page" in self._value.type

    @property
    def sizes(self) -> tuple:
        sizes = axes_of(self._value)
        return tuple(1 if name is None else sizes[name] for name in (self.rows, self.cols))

    @property
    def shape(self) -> tuple:
        return (Size({"S": Fraction(1)}) if self.ragged else 1, *self.sizes)

    def dim(self) -> int:
        return 3

    ndim = 3

    def __repr__(self) -> str:
        return f"vTensor[{'S' if self.ragged else 'B'}, {', '.join(map(str, self.sizes))}]"

    # Native torch, as the older line allows it on the query.
    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        near = _core.nearest_name(name, list(NATIVE))
        raise UserError(
            place.text(),
            f"a tensor goes through the ops of vortex_torch; of torch itself it knows {', '.join(NATIVE)} with keepdim=True, and arithmetic",
            f".{name}",
            f"did you mean .{near}?" if near else "use an op of vortex_torch.indexer or vortex_torch.cache",
        )

    def _native(self, op: str, dim, keepdim: bool) -> "Tensor":
        if dim not in (1, 2, -1, -2) or not keepdim:
            raise UserError(
                place.text(),
                "tensors have three axes: a reduction of torch says dim=1 or dim=2 and keepdim=True",
                f"dim={dim}, keepdim={keepdim}",
                "say .mean(dim=1, keepdim=True)",
            )
        return self.reduced(op, dim % 3)

    def mean(self, dim=None, keepdim=False):
        return self._native("mean", dim, keepdim)

    def sum(self, dim=None, keepdim=False):
        return self._native("sum", dim, keepdim)

    def amax(self, dim=None, keepdim=False):
        return self._native("max", dim, keepdim)

    def amin(self, dim=None, keepdim=False):
        return self._native("min", dim, keepdim)

    def _with(self, op: str, other, swapped: bool = False) -> "Tensor":
        if isinstance(other, (numbers.Real, Number, Size)):
            number = Session.current.number(other)
            a, b = (number, self.value) if swapped else (self.value, number)
            return Tensor(FUNCTIONS[op](a, b), self.rows, self.cols)
        return elementwise(op, self, tensor(other, op))

    def __add__(self, other):
        return self._with("add", other)

    __radd__ = __add__

    def __sub__(self, other):
        return self._with("sub", other)

    def __rsub__(self, other):
        return self._with("sub", other, True)

    def __mul__(self, other):
        return self._with("mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self._with("div", other)

    def __rtruediv__(self, other):
        return self._with("div", other, True)

    def __neg__(self):
        return Tensor(-self.value, self.rows, self.cols)

    def __bool__(self):
        raise UserError(
            place.text(),
            "a flow is traced once for all pages, so it cannot branch on a tensor",
            "if, while, and, or, not",
            "use the Where ops, Maximum or Minimum",
        )

    # What ops are made of.
    def axis(self, dim: int) -> str | None:
        return self.rows if dim == 1 else self.cols

    def with_axis(self, value: Value, dim: int, name: str | None) -> "Tensor":
        return Tensor(value, name, self.cols) if dim == 1 else Tensor(value, self.rows, name)

    def reduced(self, op: str, dim: int) -> "Tensor":
        """mean, sum, max, min or norm over D0 (1) or D1 (2), which becomes 1."""
        name = self.axis(dim)
        if name is None:
            return Tensor(abs(self.value) if op == "norm" else self.value, self.rows, self.cols)
        return self.with_axis(FUNCTIONS[op](self.value, name), dim, None)

    def renamed(self, rows: str | None, cols: str | None) -> "Tensor":
        """The same with its axes under other names; an axis that is none stays none."""
        value, wanted = self.value, {self.rows: rows, self.cols: cols}
        moving = {old: new for old, new in wanted.items() if old and new and old != new}
        for old, new in list(moving.items()):
            if new in axes_of(value):  # its place is taken by the other axis, which moves as well
                other = next(Session.current.names)
                value = FUNCTIONS["rename"](value, new, other)
                moving[other] = moving.pop(new)
        for old, new in moving.items():
            value = FUNCTIONS["rename"](value, old, new)
        return Tensor(value, rows if self.rows else None, cols if self.cols else None)

    def filled(self, number) -> Value:
        """A number in the shape of this tensor."""
        return FUNCTIONS["where"](self.value, number, number)


class Stored:
    """A cache field: read() gives the tensor it holds, write(tensor) and fill(number) set it."""


def tensor(operand, what: str) -> Tensor:
    if isinstance(operand, Stored):
        operand = operand.read()
    if isinstance(operand, Tensor):
        return operand
    came = f"{type(operand).__name__} {operand!r}"[:80]
    raise UserError(place.text(), f"{what} takes tensors of the flow", came, "pass q, a cache field or what an op made")


def aligned(x: Tensor, y: Tensor, what: str) -> tuple[Tensor, Tensor, str | None, str | None]:
    """Both with the names that elementwise ops need: D0 meets D0, D1 meets D1; size 1 stretches."""
    for a, b in zip(x.sizes, y.sizes):
        one = not isinstance(a, Size) and a == 1 or not isinstance(b, Size) and b == 1
        if not one and not same_size(a, b):
            raise UserError(
                place.text(),
                f"{what} takes tensors whose inner sizes are equal or 1",
                f"{x!r} and {y!r}",
                "reshape or reduce one of them",
            )
    rows, cols = x.rows or y.rows, x.cols or y.cols
    if rows is not None and rows == cols:  # [S, D, 1] with [S, 1, D]: two axes of one name
        rows = next(Session.current.names)
    return x.renamed(rows, cols), y.renamed(rows, cols), rows, cols


def elementwise(op: str, x: Tensor, y: Tensor, what: str | None = None) -> Tensor:
    x, y, rows, cols = aligned(x, y, what or op)
    return Tensor(FUNCTIONS[op](x.value, y.value), rows, cols)
