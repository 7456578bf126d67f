"""vortex_torch.indexer: ops of forward_indexer, which runs at every decode step for all blocks of a row and ends in a choice."""

import numbers

from vortex_attention.compat.ops import (
    SHARED,
    Context,
    GeMM,
    Op,
    Sum,
    aligned,
    bound,
    check_dim,
    is_number,
    missing,
    refuse,
    require_ragged,
    same_size,
    scaled,
    setting,
)
from vortex_attention.compat.tensor import Session, Stored, Tensor
from vortex_attention.compat.weights import Parameter, learned_query, no_lookup
from vortex_attention.language.value import FUNCTIONS


class GeMV(GeMM):
    """A dot product: both tensors are one row."""

    def make(self, x, y):
        if x.rows is not None or y.rows is not None:
            refuse(
                f"{self.spoken} takes tensors of one row, [S, 1, D]", f"{x!r} and {y!r}", "use GeMM, or reduce the rows"
            )
        return super().make(x, y)


class Softmax(Op):
    """exp(scale · x) / Σ over the blocks. In the older line it changes x, and its result is not taken."""

    def __init__(self, dim=0, scale=1.0):
        check_dim(self, dim, (0,))
        self.dim, self.scale = dim, scale

    def make(self, x):
        require_ragged(self, x, "dim=0")
        return x.changed_by(Tensor(FUNCTIONS["softmax"](scaled(x.value, self.number("scale")), "page"), x.rows, x.cols))


class Normalize(Op):
    """x / Σ over the blocks."""

    def __init__(self, dim=0):
        check_dim(self, dim, (0,))
        self.dim = dim

    def make(self, x):
        require_ragged(self, x, "dim=0")
        return x.changed_by(Tensor(FUNCTIONS["normalize"](x.value, "page"), x.rows, x.cols))


class Conv1d(Op):
    """Σ_k weight[k, d0, d1] · x[s + k − K/2, d0, d1] over the blocks, nothing beyond the ends. weight: a nested list [K, D0, D1]."""

    def __init__(self, weight, dim=0, dtype=None):
        check_dim(self, dim, (0,))
        self.weight = [[[float(number) for number in row] for row in tap] for tap in self._checked(weight)]

    def _checked(self, weight) -> list:
        try:
            sizes = {len(weight)} | {len(tap) for tap in weight} | {len(row) for tap in weight for row in tap}
            even = len({(len(tap), len(row)) for tap in weight for row in tap}) == 1
            right = even and all(isinstance(number, numbers.Real) for tap in weight for row in tap for number in row)
        except TypeError:
            right, sizes = False, set()
        if not right or min(sizes) < 1 or max(sizes) > 64:
            refuse(
                f"{self.spoken} takes its weight as a nested list of numbers [K, D0, D1], 1 to 64 of each",
                f"{weight!r}"[:80],
                "say Conv1d([[[0.25]], [[0.5]], [[0.25]]])",
            )
        return weight

    def make(self, x):
        require_ragged(self, x, "dim=0")
        for dim, size in zip((1, 2), (len(self.weight[0]), len(self.weight[0][0]))):
            if size > 1 and not same_size(x.sizes[dim - 1], size):
                refuse(
                    f"{self.spoken} has a weight for each element, or one for all",
                    f"{x!r} with {size} in D{dim - 1}",
                    "give one for all",
                )
        total = None
        for k, tap in enumerate(self.weight):
            moved = FUNCTIONS["shift"](x.value, len(self.weight) // 2 - k) if k != len(self.weight) // 2 else x.value
            part = moved * self.weights(x, tap)
            total = part if total is None else total + part
        return Tensor(total, x.rows, x.cols)

    def weights(self, x: Tensor, tap: list):
        """The numbers of one tap: one, or each at its place along the axes of x."""
        if len({number for row in tap for number in row}) == 1:
            return tap[0][0]
        out = 0.0
        for i, row in enumerate(tap):
            for j, number in enumerate(row):
                here = 1.0
                for name, index, count in ((x.rows, i, len(tap)), (x.cols, j, len(row))):
                    if count > 1:
                        here = (FUNCTIONS["cumsum"](x.filled(1.0), name) == index + 1.0) * here
                out = here * number + out
        return out


class LearnedQuery(Op):
    """scaling · Σ_h Wk[h] (Wq[h]ᵀ q_h), a query of learned directions: [B, H, d] → [B, 1, d]."""

    def __init__(self, Wq, Wk, layer_lookup=None, scaling=1.0):
        no_lookup("LearnedQuery", layer_lookup)
        self.wq, self.wk, self.scaling = Wq, Wk, scaling

    def make(self, x):
        return learned_query(x, self.wq, self.wk, setting("scaling", self.scaling, self.spoken), self.spoken)


class Transpose(Op):
    """[S, D0, D1] → [S, D1, D0]."""

    def make(self, x):
        return Tensor(x.value, x.cols, x.rows)


class Kron(Op):
    """out[s, i·y1 + j, k·y2 + l] = x[s, i, k] · y[s, j, l] on the axes in dim; the others stretch."""

    arity = 2

    def __init__(self, dim=(1, 2)):
        dims = tuple(dim) if isinstance(dim, (list, tuple)) else (dim,)
        if not dims or any(one not in (1, 2) for one in dims) or len(set(dims)) < len(dims):
            refuse(f"{self.spoken} takes dim 1, 2 or (1, 2)", f"dim={dim!r}"[:80], "say dim=1")
        self.dims = dims

    def make(self, x, y):
        names = Session.current.names
        # Axes that multiply keep apart names until they are merged; the others meet as in an elementwise op.
        one = Tensor(x.value, None if 1 in self.dims else x.rows, None if 2 in self.dims else x.cols)
        other = Tensor(y.value, None if 1 in self.dims else y.rows, None if 2 in self.dims else y.cols)
        apart = {}
        value_x, value_y = x.value, y.value
        for dim in self.dims:
            for which, of in ((0, x), (1, y)):
                if of.axis(dim) is not None:
                    fresh = apart[dim, which] = next(names)
                    if which == 0:
                        value_x = FUNCTIONS["rename"](value_x, of.axis(dim), fresh)
                    else:
                        value_y = FUNCTIONS["rename"](value_y, of.axis(dim), fresh)
        one._value, other._value = value_x, value_y
        one, other, rows, cols = aligned(one, other, self.spoken)
        value, result = one.value * other.value, [rows, cols]
        for dim in self.dims:
            outer, inner = apart.get((dim, 0)), apart.get((dim, 1))
            if outer and inner:
                value = FUNCTIONS["merge"](value, outer, inner)
            result[dim - 1] = outer or inner
        return Tensor(value, *result)


class Load(Op):
    """What Save left in a field in the step before."""

    def operand(self, operand):
        if not isinstance(operand, Stored):
            refuse(f"{self.spoken} takes a field of create_cache", repr(operand)[:80], 'give it cache["name"]')
        return operand

    def make(self, field):
        return field.load()


class Save(Op):
    """Keeps a tensor in a field for the next step: op(x, cache["name"], ctx=ctx)."""

    arity = 2

    def operand(self, operand):
        return operand if isinstance(operand, Stored) else super().operand(operand)

    def make(self, x, field):
        if not isinstance(field, Stored) or isinstance(x, Stored):
            refuse(
                f"{self.spoken} takes a tensor and the field that keeps it",
                f"{x!r} and {field!r}"[:120],
                'say op(x, cache["name"], ctx=ctx)',
            )
        field.save(x)


class Stream:
    """What TopK makes: its best blocks. vortex_torch hands on two tensors, a block table and lengths; both are this."""

    def __init__(self, value, amount: int):
        self.value, self.amount = value, amount


class Choice(Op):
    """A terminal op: exactly one ends forward_indexer."""

    def scores(self, x: Tensor):
        if x.rows is not None or x.cols is not None or not x.ragged:
            refuse(
                f"{self.spoken} takes one number a block, [S, 1, 1]",
                repr(x),
                "reduce its inner axes with Max, Mean or Sum" if x.ragged else "make it from a cache field",
            )
        return x.value

    def end(self, kind: str, value):
        session = Session.current
        if session.result is not None:
            refuse(
                "forward_indexer ends in one topK, approxTopK or Union",
                f"a second one, {type(self).__name__}",
                "leave one out",
            )
        session.result = (kind, value)

    def __call__(self, *arguments, ctx=None):
        operands = [argument for argument in arguments if not isinstance(argument, Context)]
        if not operands or not isinstance(operands[-1], Output):
            refuse(
                f"{self.spoken} writes into o",
                f"{len(operands)} operands without it",
                "pass the o of forward_indexer last",
            )
        super().__call__(*operands[:-1], ctx=ctx)


class Output:
    """o: what the terminal op writes."""


class topK(Choice):
    """The best blocks, as many as the budget leaves. topk_type of the older line names a kernel, not another choice."""

    def __init__(self, topk_type=None):
        self.topk_type = topk_type

    def make(self, x):
        self.end("score", self.scores(x))


class approxTopK(Choice):
    """The same where up to a share of the blocks may be missed. The CPU misses none."""

    def __init__(self, tolerate_ratio=0.0):
        share = setting("tolerate_ratio", tolerate_ratio, self.spoken)
        if not isinstance(share, numbers.Real) or not 0 <= share < 1:
            refuse(
                f"{self.spoken} takes a tolerate_ratio from 0 to below 1",
                f"{tolerate_ratio}"[:80],
                "say tolerate_ratio=0.1",
            )
        self.tolerate_ratio = share

    def make(self, x):
        scores = self.scores(x)
        if is_number(self.tolerate_ratio, 0):
            return self.end("score", scores)
        return self.end("set", FUNCTIONS["approx_top_k"](scores, recall=1.0 - self.tolerate_ratio))


class TopK(Choice):
    """The k best blocks, for Union: block_tables, seqlens = op(score, ctx=ctx)."""

    def __init__(self, k):
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            refuse(f"{self.spoken} takes a whole number of blocks", f"k={k!r}"[:80], "say TopK(16)")
        self.k = k

    def __call__(self, *arguments, ctx=None):
        return Op.__call__(self, *arguments, ctx=ctx)

    def make(self, x):
        stream = Stream(self.scores(x), self.k)
        return stream, stream


class Union(Choice):
    """The blocks of two streams of TopK."""

    arity = 2

    def operand(self, operand):
        pair = operand if isinstance(operand, (tuple, list)) else (operand, operand)
        if len(pair) != 2 or not all(isinstance(part, Stream) for part in pair) or pair[0] is not pair[1]:
            refuse(
                f"{self.spoken} takes two pairs that TopK made, and o",
                repr(operand)[:80],
                "say op(first(a, ctx=ctx), second(b, ctx=ctx), o, ctx=ctx)",
            )
        return pair[0]

    def make(self, *streams):
        one, other = (FUNCTIONS["top_k"](stream.value, stream.amount) for stream in streams)
        self.end("set", one | other)


OPS = bound(
    [
        *SHARED,
        Sum,
        GeMV,
        Softmax,
        Normalize,
        Conv1d,
        LearnedQuery,
        Transpose,
        Kron,
        Load,
        Save,
        topK,
        approxTopK,
        TopK,
        Union,
    ],
    "indexer",
)
NAMES = {**OPS, "Context": Context, "Parameter": Parameter}

REASONS = {
    "MaxInterleave": "interleaved reductions are ops of vortex_torch.cache",
    "Fill": "Fill is an op of vortex_torch.cache",
}
get_missing = missing("vortex_torch.indexer", NAMES, REASONS)
