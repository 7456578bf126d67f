"""vortex_torch.cache: ops of forward_cache, which runs once for a full block. They write fields of create_cache."""

from vortex_attention.compat.ops import SHARED, Context, Op, bound, check_dim, missing, refuse, setting
from vortex_attention.compat.tensor import Session, Stored, Tensor, same_size
from vortex_attention.language.value import FUNCTIONS


class Interleave(Op):
    """Each run of k consecutive elements of an axis becomes one."""

    op = ""

    def __init__(self, dim=1, k=2):
        check_dim(self, dim, (1, 2))
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            refuse(f"{self.spoken} takes a whole number of at least 1 as k", f"k={k}"[:80], "say k=16")
        self.dim, self.k = dim, k

    def make(self, x):
        name, size = x.axis(self.dim), x.sizes[self.dim - 1]
        if same_size(size, self.k):
            return x.reduced(self.op, self.dim)
        if self.k == 1:
            return Tensor(abs(x.value) if self.op == "norm" else x.value, x.rows, x.cols)
        if isinstance(size, int) and size % self.k:
            refuse(
                f"{self.spoken} needs runs that divide the axis",
                f"{size} elements in runs of {self.k}",
                "choose a divisor",
            )
        inner = next(Session.current.names)
        return x.with_axis(FUNCTIONS[self.op](FUNCTIONS["split"](x.value, name, inner, self.k), inner), self.dim, name)


class MeanInterleave(Interleave):
    op = "mean"


class MaxInterleave(Interleave):
    op = "max"


class MinInterleave(Interleave):
    op = "min"


class L2NormInterleave(Interleave):
    op = "norm"


class Fill(Op):
    """A number in a whole field: op(field, loc=loc, ctx=ctx)."""

    arity = 0

    def __init__(self, alpha=0.0, value=None):
        self.alpha = alpha if value is None else value
        setting("alpha", self.alpha, self.spoken)

    def __call__(self, *arguments, ctx=None, loc=None, output=None):
        fields = [argument for argument in (*arguments, output) if isinstance(argument, Stored)]
        if len(fields) != 1:
            refuse(
                f"{self.spoken} takes the field it fills",
                f"{len(fields)} fields",
                'say op(cache["name"], loc=loc, ctx=ctx)',
            )
        fields[0].fill(float(self.alpha))


OPS = bound([*SHARED, MeanInterleave, MaxInterleave, MinInterleave, L2NormInterleave, Fill], "cache")
NAMES = {**OPS, "Context": Context}

_ELSEWHERE = "the cache side has no such op; use one of vortex_torch.indexer in forward_indexer"
REASONS = {
    "Sum": "use Mean and multiply by the size of the axis, as in vortex_torch",
    **dict.fromkeys(
        ("Softmax", "Normalize", "Conv1d", "Transpose", "Kron", "Save", "Load", "topK", "Parameter"), _ELSEWHERE
    ),
}
get_missing = missing("vortex_torch.cache", NAMES, REASONS)
