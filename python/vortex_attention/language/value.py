"""Values of a flow while it is traced, and the ops on them: one method and one function for each row of the op table.

A Value is a number of a node in the tracer and nothing else. It refuses everything that would need its elements now: truth, iteration,
conversion to a plain number.
"""

import numbers

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.language import place


class Trace:
    """A flow being traced: the C++ tracer, and sources made once."""

    current = None  # the one whose methods run; for functions without a value, such as first(4)

    def __init__(self, name: str, doc: str):
        Trace.current = self
        self.tracer = _core.FlowTracer(name, doc)
        self.sources = {}

    def apply(self, op: str, inputs: list[int], settings: dict, at: tuple[str, int] | None = None) -> "Value":
        file, line = at or place.here()
        return Value(self, self.tracer.append(op, inputs, settings, file, line))

    def source(self, op: str, at: tuple[str, int] | None = None, of: type | None = None, **settings) -> "Value":
        key = (op, *settings.values())
        if key not in self.sources:
            made = self.apply(op, [], settings, at)
            self.sources[key] = of(self, made._id) if of else made
        return self.sources[key]

    def value(self, operand, what: str) -> "Value":
        """An operand as a Value: values stay, plain numbers become constants."""
        if isinstance(operand, Value):
            if operand._trace is not self:
                raise UserError(
                    place.text(),
                    f"{what} takes values of the flow being traced",
                    "a value of another flow or of an earlier trace",
                    "do not keep values between calls",
                )
            return operand
        if isinstance(operand, numbers.Real):
            return self.source("constant", value=float(operand))
        raise UserError(place.text(), f"{what} takes values and plain numbers", _spoken(operand), _advice(operand))


def _spoken(thing) -> str:
    return "nothing (None)" if thing is None else f"{type(thing).__name__} {thing!r}"[:80]


def _advice(thing) -> str:
    if thing is None:
        return "does the function that made it forget to return?"
    package = type(thing).__module__.split(".")[0]
    if isinstance(thing, (list, tuple)) or package == "numpy":
        return "write constants as plain numbers; lists and arrays are no part of a flow"
    if package in TENSORS:
        return 'tensors are no part of a flow: write constants as plain numbers; learned numbers are vx.param("name", axes)'
    if getattr(thing, "__name__", None) in FUNCTIONS and callable(thing):
        return f"an op is called: .{thing.__name__}()"
    return "check the operand"


TENSORS = (
    "torch",
    "jax",
    "jaxlib",
    "tensorflow",
    "cupy",
    "triton",
)  # packages whose functions and tensors a flow has no use of


class Value:
    """A value of a flow: element type, named axes and where it exists, such as f32[head, dim] @row."""

    __slots__ = ("_trace", "_id")

    def __init__(self, trace: Trace, number: int):
        self._trace, self._id = trace, number

    @property
    def type(self) -> str:
        return self._trace.tracer.type_of(self._id)

    def __repr__(self) -> str:
        return f"Value({self.type})"

    @property
    def group_pages(self) -> int:
        """Pages of one instance: 8 for a value of groups of 8 pages, else 1."""
        return self._trace.tracer.group_pages_of(self._id)

    def pages(self) -> "Value":
        """Of a set of groups: their pages, those of the group that is not full included."""
        return self._trace.apply("spread", [self._id], {"other": 1.0})

    def __getattr__(self, name: str):
        if name.startswith("__"):  # what Python and NumPy ask of every object
            raise AttributeError(name)
        if todo := _ELSEWHERE.get(name):
            raise UserError(place.text(), "a value has the ops of the language as methods", f".{name}", todo)
        if name == "set":
            self._refuse(
                "only a state is set: what page.keep or seq.keep gave",
                ".set()",
                "keep what keep() returns in a variable, and set that",
            )
        near = _core.nearest_name(name, list(FUNCTIONS))
        raise UserError(
            place.text(),
            "a value has the ops of the language as methods",
            f".{name}",
            f"did you mean .{near}?" if near else "docs/ops.md lists the ops",
        )

    def _refuse(self, required: str, came: str, todo: str):
        raise UserError(place.text(), required, f"{came} of a value {self.type}", todo)

    def __bool__(self):
        self._refuse(
            "a flow is traced once for all pages, so it cannot branch on a value",
            "if, while, and, or, not",
            "use vx.where(condition, a, b), vx.maximum or vx.minimum",
        )

    def __float__(self):
        self._refuse(
            "a value has no number while the flow is traced",
            "float(), math.exp() or the like",
            "use the methods of values: x.exp(), x.sqrt(), vx.maximum(a, b)",
        )

    __complex__ = __float__

    def _refuse_whole(self, came: str, todo: str):
        self._refuse("a value has no number while the flow is traced", came, todo)

    def __int__(self):
        self._refuse_whole("int()", "write x.floor(); numbers of pages are rounded down anyhow")

    def __index__(self):
        self._refuse_whole("range() or an index", "count by plain numbers: range(4), self.page_size, a class attribute")

    def __round__(self, *_):
        self._refuse_whole("round()", "write (x + 0.5).floor()")

    def __floor__(self):
        self._refuse_whole("math.floor()", "write x.floor()")

    def __ceil__(self):
        self._refuse_whole("math.ceil()", "write -(-x).floor()")

    def __floordiv__(self, _):
        self._refuse("a value has the operators + - * / ** and comparisons", "//", "write (a / b).floor()")

    def __mod__(self, _):
        self._refuse("a value has the operators + - * / ** and comparisons", "%", "write a - b * (a / b).floor()")

    def __invert__(self):
        self._refuse(
            "a value has the operators + - * / ** and comparisons", "~", "the opposite of a condition is 1 - x"
        )

    __rfloordiv__, __rmod__ = __floordiv__, __mod__

    def __array__(self, *_, **__):
        self._refuse_numpy("a NumPy function")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        """The operators of NumPy's own numbers, np.float64(2) * x, are those of values; all else of NumPy needs numbers."""
        name = _OF_NUMPY.get(ufunc.__name__)
        if (
            name is None
            or method != "__call__"
            or options
            or not all(isinstance(i, (Value, numbers.Real)) for i in inputs)
        ):
            array = next((i for i in inputs if not isinstance(i, (Value, numbers.Real))), None)
            if name is not None and array is not None:
                raise UserError(place.text(), f"{name} takes values and plain numbers", _spoken(array), _advice(array))
            self._refuse_numpy(f"np.{ufunc.__name__}()", ufunc.__name__)
        return _apply(_OPS[name], inputs, {})

    def __array_function__(self, function, *_, **__):
        self._refuse_numpy(f"np.{function.__name__}()", function.__name__)

    def _refuse_numpy(self, came: str, name: str = ""):
        own = {"amax": "max", "amin": "min"}.get(name, name)
        written = f"x.{own}({'axis' if own in REDUCING else ''})" if own in FUNCTIONS else 'x.exp(), x.sum("dim")'
        self._refuse("a value has no number while the flow is traced", came, f"use the methods of values: {written}")

    def __len__(self):
        self._refuse(
            "the size of an axis is known when the flow meets a model",
            "len()",
            "use .mean(axis) for an average; page_size is self.page_size",
        )

    def __iter__(self):
        self._refuse("a value cannot be looped over", "iteration", 'reduce an axis by its name: x.sum("token")')

    def __getitem__(self, _):
        self._refuse("axes have names, not positions", "[...]", 'cut an axis by its name: x.slice("dim", 0, 32)')

    def __matmul__(self, _):
        self._refuse("a contraction names its axis", "@", 'write vx.dot(a, b, over="dim")')

    __rmatmul__ = __matmul__
    __hash__ = object.__hash__

    def __ne__(self, other):
        return 1.0 - _apply(_OPS["equal"], (self, other), {})


class State(Value):
    """What page.keep and seq.keep give: a value as the step before left it, whose `set` says what it is in the next step."""

    __slots__ = ()

    def set(self, value):
        """Says what the state is in the next step, once: a value with its axes or fewer, of its page or of the sequence."""
        value = self._trace.value(value, "set")
        self._trace.tracer.set_state(self._id, value._id, *place.here())


_ELSEWHERE = {  # what tensors have in other libraries, and what is said here
    **dict.fromkeys(
        ("T", "mT", "transpose", "permute", "swapaxes", "view", "reshape", "unsqueeze", "squeeze", "expand", "flatten"),
        "axes have names, so nothing is transposed or reshaped: operands meet by name; vx.dot, .split, .merge and .rename do the rest",
    ),
    **dict.fromkeys(("shape", "size", "ndim", "dim"), "sizes are known when the flow meets a model; .type says the axes"),
    **dict.fromkeys(("matmul", "mm", "bmm", "einsum", "inner"), 'a contraction names its axis: vx.dot(a, b, over="dim")'),
    **dict.fromkeys(("amax", "argmax", "topk", "sort", "argsort"), 'the largest is x.max("page"); a set of pages is vx.top_k(x, k)'),
    **dict.fromkeys(("amin", "argmin"), 'the smallest is x.min("page")'),
    **dict.fromkeys(("item", "tolist", "numpy", "cpu", "cuda", "detach", "clone", "contiguous"), "a value has no number while the flow is traced; leave it out"),
    **dict.fromkeys(("float", "half", "bfloat16", "double", "to", "type_as", "astype"), "a program means real numbers; leave it out"),
}  # fmt: skip
_POSITIONS = ("dim", "axes", "dims", "keepdim", "keepdims")  # settings of reductions elsewhere


def _settings(op: dict, rest: tuple, keywords: dict) -> dict:
    """The attributes of a call: those given by position, in the order of the table, then those given by name."""
    known = [attribute["name"] for attribute in op["attributes"]]
    if op["name"] == "split" and len(rest) < 2 and len(keywords) == 1 and not set(keywords) & {"size"}:
        ((name, size),) = keywords.items()  # x.split("token", sub=16)
        if name not in known:
            keywords = {"name": name, "size": size}
    for name in _POSITIONS:
        if name in keywords and name not in known and "axis" in known:
            kept = "nothing has to be kept for broadcasting" if name.startswith("keep") else "axes have names"
            todo = (
                "leave it out"
                if name.startswith("keep")
                else f'say which one: x.{op["name"]}("dim"), "head", "token" or "page"'
            )
            raise UserError(place.text(), kept, f"{name}={keywords[name]!r}"[:80], todo)
    if len(rest) > len(known):
        raise UserError(
            place.text(),
            f"{op['name']} takes {', '.join(known) or 'no settings'}",
            f"{len(rest)} settings",
            "leave the others out",
        )
    settings = dict(zip(known, rest))
    for name, setting in keywords.items():
        if name in settings:
            raise UserError(place.text(), f"{op['name']} takes {name} once", "two of it", "leave one out")
        settings[name] = setting
    for name, setting in settings.items():
        if isinstance(setting, bool) or not isinstance(setting, (int, float, str)):
            if isinstance(setting, numbers.Real):
                settings[name] = float(setting)
                continue
            todo = (
                "reduce one axis after another"
                if isinstance(setting, (list, tuple))
                else "write it as a plain number or a string"
            )
            came = f"a value {setting.type}" if isinstance(setting, Value) else _spoken(setting)
            raise UserError(place.text(), f"{op['name']} takes a plain number or a name as {name}", came, todo)
    return settings


def _apply(op: dict, arguments: tuple, keywords: dict) -> Value:
    name, arity = op["name"], op["arity"]
    operands = arguments[:arity]
    trace = next((operand._trace for operand in operands if isinstance(operand, Value)), None)
    if len(operands) < arity:
        raise UserError(
            place.text(),
            f"{name} takes {arity} value{'s' if arity > 1 else ''}",
            str(len(operands)),
            "check its operands",
        )
    if trace is None:
        todo = (
            "compute with plain numbers in Python itself"
            if all(isinstance(o, numbers.Real) for o in operands)
            else _advice(operands[0])
        )
        raise UserError(place.text(), f"{name} takes values of a flow", ", ".join(map(_spoken, operands)), todo)
    inputs = [trace.value(operand, name)._id for operand in operands]
    return trace.apply(name, inputs, _settings(op, arguments[arity:], keywords))


def _function(op: dict):
    def call(*arguments, **keywords):
        return _apply(op, arguments, keywords)

    call.__name__ = call.__qualname__ = op["name"]
    call.__doc__ = op["doc"]
    return call


def _with_the_row(op: dict, function):
    """top_k without a number takes what the budget leaves; first and last count from the ends of the sequence."""

    def call(*arguments, **keywords):
        name = op["name"]
        if name in ("top_k", "approx_top_k"):
            if len(arguments) == 1 and "k" not in keywords:
                left = _trace_of(arguments, name).source("seq_left")
                pages = arguments[0].group_pages if isinstance(arguments[0], Value) else 1
                arguments = (*arguments, left if pages == 1 else left * (1.0 / pages))
            elif "k" in keywords and len(arguments) == 1:
                arguments = (*arguments, keywords.pop("k"))
            _check_amount(name, arguments[1] if len(arguments) > 1 else None)
        elif name == "top_p":
            if len(arguments) == 1 and "p" in keywords:
                arguments = (*arguments, keywords.pop("p"))
            _check_share(arguments[1] if len(arguments) > 1 else None)
        elif name in ("first", "last") and len(arguments) == 1:
            _check_amount(name, arguments[0])
            trace = _trace_of(arguments, name)
            arguments = (trace.source("page_index"), *arguments)
            if name == "last":
                arguments = (*arguments, trace.source("seq_pages"))
        elif name in ("first", "last"):
            raise UserError(
                place.text(), f"{name} takes how many pages", f"{len(arguments)} values", f"say vx.{name}(4)"
            )
        return function(*arguments, **keywords)

    call.__name__ = call.__qualname__ = op["name"]
    call.__doc__ = op["doc"]
    return call


def _is_number(thing) -> bool:
    return isinstance(thing, numbers.Real) and not isinstance(thing, Value)


def _check_amount(name: str, amount):
    if _is_number(amount) and not amount >= 1:
        raise UserError(
            place.text(),
            f"{name} takes at least 1 page",
            f"{amount!r}"[:80],
            "say how many pages, or leave the set out",
        )


def _check_share(share):
    if _is_number(share) and not 0 < share <= 1:
        raise UserError(
            place.text(), "top_p takes a share above 0 and up to 1", f"{share!r}"[:80], "say 0.9, for example"
        )


def _trace_of(arguments: tuple, name: str) -> "Trace":
    trace = next((operand._trace for operand in arguments if isinstance(operand, Value)), Trace.current)
    if trace is None:
        raise UserError(place.text(), f"{name} belongs in a method of a flow", "a call outside", "call it in select")
    return trace


_OPS = {op["name"]: op for op in _core.op_table()}
FUNCTIONS = {name: _function(op) for name, op in _OPS.items() if op["arity"] > 0}
for _name in ("top_k", "approx_top_k", "top_p", "first", "last"):
    FUNCTIONS[_name] = _with_the_row(_OPS[_name], FUNCTIONS[_name])
REDUCING = {name for name, op in _OPS.items() if op["kind"] in ("reduction", "along")}
_OF_NUMPY = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "power": "pow", "less": "less",
             "less_equal": "less_equal", "greater": "greater", "greater_equal": "greater_equal", "equal": "equal"}  # fmt: skip
SOURCES = {name: op for name, op in _OPS.items() if op["arity"] == 0}


def conv(x: Value, weights, axis: str = "page", other: float = 0.0) -> Value:
    """A convolution along pages with constant weights, written out as a sum of shifts: weights[i] times the value i - n // 2 places after
    this one, n being their number, `other` beyond the ends. UserError on another axis, and where a weight is no plain number."""
    if not isinstance(x, Value):
        raise UserError(place.text(), "conv takes a value of a flow", _spoken(x), _advice(x))
    if axis != "page":
        todo = f'write it as a sum of cuts: x.slice("{axis}", 0, 4) * 0.5 + x.slice("{axis}", 1, 5) * 0.5'
        raise UserError(place.text(), 'conv runs along "page"', f'"{axis}"'[:80], todo)
    if not isinstance(weights, (list, tuple)) or not 1 <= len(weights) <= 64 or not all(map(_is_number, weights)):
        raise UserError(
            place.text(), "conv takes 1 to 64 plain numbers", _spoken(weights), "write x.conv((0.25, 0.5, 0.25))"
        )
    out = None
    for place_after, weight in enumerate(weights, -(len(weights) // 2)):
        part = float(weight) * (x.shift(-place_after, other=other) if place_after else x)
        out = part if out is None else out + part
    return out


def _add_methods():
    Value.conv = conv
    for name, function in FUNCTIONS.items():
        if name not in ("first", "last"):  # of a sequence, not of a value
            setattr(Value, name, function)
    operators = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow"}
    for operator, name in operators.items():
        op = _OPS[name]
        setattr(Value, f"__{operator}__", lambda a, b, op=op: _apply(op, (a, b), {}))
        setattr(Value, f"__r{operator}__", lambda a, b, op=op: _apply(op, (b, a), {}))
    for operator, name in {
        "lt": "less",
        "le": "less_equal",
        "gt": "greater",
        "ge": "greater_equal",
        "eq": "equal",
    }.items():
        setattr(Value, f"__{operator}__", lambda a, b, op=_OPS[name]: _apply(op, (a, b), {}))
    Value.__or__ = lambda a, b: _apply(_OPS["either"], (a, b), {})
    Value.__and__ = lambda a, b: _apply(_OPS["both"], (a, b), {})
    for operator, name in {"neg": "neg", "abs": "abs"}.items():
        setattr(Value, f"__{operator}__", lambda a, op=_OPS[name]: _apply(op, (a,), {}))
    Value.__pos__ = lambda a: a


_add_methods()
