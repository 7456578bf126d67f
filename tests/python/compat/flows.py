"""Flows in the manner of vortex_torch, one for the structure of each that is published with it; test_compat_flows.py has the same in
the language."""

import torch
from vortex_torch.abs import ContextBase
from vortex_torch.cache import Fill as CFill
from vortex_torch.cache import L2Norm as CL2Norm
from vortex_torch.cache import Max as CMax
from vortex_torch.cache import MaxInterleave as CMaxInterleave
from vortex_torch.cache import Mean as CMean
from vortex_torch.cache import MeanInterleave as CMeanInterleave
from vortex_torch.cache import Min as CMin
from vortex_torch.cache import MinInterleave as CMinInterleave
from vortex_torch.flow import register, vFlow
from vortex_torch.indexer import (
    Add,
    GeMM,
    GeMV,
    Kron,
    Load,
    MaskSlice,
    Max,
    Maximum,
    Mean,
    Multiply,
    Save,
    Softmax,
    Sum,
    TopK,
    Union,
    approxTopK,
    topK,
)

SUB = 4  # tokens of a sub-block


class _Centroids(vFlow):
    """What most of them remember."""

    def __init__(self):
        super().__init__()
        self.out = topK()
        self.center = CMean(dim=1)

    def forward_cache(self, cache: dict[str, torch.Tensor], loc: torch.Tensor, ctx: ContextBase):
        self.center(cache["k"], cache["centers"], loc=loc, ctx=ctx)

    def create_cache(self, block_size: int, head_dim: int):
        return {"centers": (1, head_dim)}


@register("block_sparse")
class BlockSparse(_Centroids):
    def __init__(self):
        super().__init__()
        self.mean, self.gemm = Mean(dim=1), GeMM()

    def forward_indexer(self, q: torch.Tensor, o: torch.Tensor, cache: dict[str, torch.Tensor], ctx: ContextBase):
        self.out(self.gemm(self.mean(q, ctx=ctx), cache["centers"], ctx=ctx), o, ctx=ctx)


@register("block_sparse_native")
class BlockSparseNative(_Centroids):
    """The older line: torch on the query, page_size."""

    def __init__(self):
        super().__init__()
        self.gemv = GeMV()

    def forward_indexer(self, q, o, cache, ctx):
        self.out(self.gemv(q.mean(dim=1, keepdim=True), cache["centers"], ctx=ctx), o, ctx=ctx)

    def create_cache(self, page_size: int, head_dim: int):
        return {"centers": (1, head_dim)}


@register("block_sparse_approximate")
class BlockSparseApproximate(BlockSparse):
    def __init__(self):
        super().__init__()
        self.out = approxTopK(tolerate_ratio=0.15)


@register("gqa_block_sparse")
class GqaBlockSparse(_Centroids):
    def __init__(self):
        super().__init__()
        self.gemm, self.share, self.best = GeMM(), Softmax(dim=0, scale=0.09), Max(dim=2)

    def forward_indexer(self, q, o, cache, ctx):
        score = self.share(self.gemm(q, cache["centers"], ctx=ctx), ctx=ctx)
        self.out(self.best(score, ctx=ctx), o, ctx=ctx)


@register("gqa_block_sparse_in_place")
class GqaBlockSparseInPlace(GqaBlockSparse):
    def forward_indexer(self, q, o, cache, ctx):
        score = self.gemm(q, cache["centers"], ctx=ctx)
        self.share(score, ctx=ctx)
        self.out(self.best(score, ctx=ctx), o, ctx=ctx)


class _Envelope(vFlow):
    def __init__(self):
        super().__init__()
        self.times_hi, self.times_lo, self.larger = Multiply(), Multiply(), Maximum()
        self.total, self.best, self.out = Sum(dim=2), Max(dim=1), topK()
        self.hi, self.lo = CMax(dim=1), CMin(dim=1)

    def bound(self, q, cache, ctx):
        above = self.times_hi(q, cache["hi"], ctx=ctx)
        below = self.times_lo(q, cache["lo"], ctx=ctx)
        return self.total(self.larger(above, below, ctx=ctx), ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        self.hi(cache["k"], cache["hi"], loc=loc, ctx=ctx)
        self.lo(cache["k"], cache["lo"], loc=loc, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        return {"hi": (1, head_dim), "lo": (1, head_dim)}


@register("gqa_quest")
class GqaQuest(_Envelope):
    def forward_indexer(self, q, o, cache, ctx):
        self.out(self.best(self.bound(q, cache, ctx), ctx=ctx), o, ctx=ctx)


@register("masked_quest")
class MaskedQuest(_Envelope):
    def __init__(self):
        super().__init__()
        self.keep, self.masked = MaskSlice(start=0, end=8, dim=2, alpha=0.0, beta=1.0), Multiply()

    def forward_indexer(self, q, o, cache, ctx):
        q = self.masked(q, self.keep(q, ctx=ctx), ctx=ctx)
        self.out(self.best(self.bound(q, cache, ctx), ctx=ctx), o, ctx=ctx)


@register("sub_block_quest")
class SubBlockQuest(_Envelope):
    """Bounds of sub-blocks: the heads along one axis with the sub-blocks, by Kron."""

    def __init__(self):
        super().__init__()
        self.times_hi, self.times_lo = Kron(dim=1), Kron(dim=1)
        self.hi, self.lo = CMaxInterleave(dim=1, k=SUB), CMinInterleave(dim=1, k=SUB)

    def forward_indexer(self, q, o, cache, ctx):
        self.out(self.best(self.bound(q, cache, ctx), ctx=ctx), o, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        return {"hi": (block_size // SUB, head_dim), "lo": (block_size // SUB, head_dim)}


@register("sub_block_centroid")
class SubBlockCentroid(BlockSparse):
    def __init__(self):
        super().__init__()
        self.best, self.center = Max(dim=1), CMeanInterleave(dim=1, k=SUB)

    def forward_indexer(self, q, o, cache, ctx):
        score = self.gemm(self.mean(q, ctx=ctx), cache["centers"], ctx=ctx)
        self.out(self.best(score, ctx=ctx), o, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        return {"centers": (block_size // SUB, head_dim)}


@register("centered")
class Centered(_Centroids):
    def __init__(self):
        super().__init__()
        self.gemm, self.mean, self.over_blocks, self.minus = GeMM(), Mean(dim=2), Mean(dim=0), Add(alpha=1.0, beta=-1.0)

    def forward_indexer(self, q, o, cache, ctx):
        score = self.mean(self.gemm(q, cache["centers"], ctx=ctx), ctx=ctx)
        self.out(self.minus(score, self.over_blocks(score, ctx=ctx), ctx=ctx), o, ctx=ctx)


@register("value_energy")
class ValueEnergy(BlockSparse):
    def __init__(self):
        super().__init__()
        self.gate, self.norms, self.energy = Multiply(), CL2Norm(dim=2), CMean(dim=1)

    def forward_indexer(self, q, o, cache, ctx):
        score = self.gemm(self.mean(q, ctx=ctx), cache["centers"], ctx=ctx)
        self.out(self.gate(score, cache["energy"], ctx=ctx), o, ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        super().forward_cache(cache, loc, ctx)
        self.energy(self.norms(cache["v"], loc=loc, ctx=ctx), cache["energy"], loc=loc, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        return {"centers": (1, head_dim), "energy": (1, 1)}


@register("heavy_hitter_blocks")
class HeavyHitterBlocks(_Envelope):
    def __init__(self, average: float = 1.0, peak: float = 0.5):
        super().__init__()
        self.gemv, self.both, self.center = GeMV(), Add(alpha=average, beta=peak), CMean(dim=1)

    def forward_indexer(self, q, o, cache, ctx):
        mean = q.mean(dim=1, keepdim=True)
        near = self.gemv(mean, cache["centers"], ctx=ctx)
        self.out(self.both(near, self.bound(mean, cache, ctx), ctx=ctx), o, ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        super().forward_cache(cache, loc, ctx)
        self.center(cache["k"], cache["centers"], loc=loc, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        return {"centers": (1, head_dim), **super().create_cache(block_size, head_dim)}


@register("gqa_heavy_hitter_blocks")
class GqaHeavyHitterBlocks(HeavyHitterBlocks):
    def __init__(self):
        super().__init__()
        self.gemm, self.nearest = GeMM(), Max(dim=2)

    def forward_indexer(self, q, o, cache, ctx):
        near = self.nearest(self.gemm(q, cache["centers"], ctx=ctx), ctx=ctx)
        peak = self.best(self.bound(q, cache, ctx), ctx=ctx)
        self.out(self.both(near, peak, ctx=ctx), o, ctx=ctx)


@register("whole_keys")
class WholeKeys(vFlow):
    """The keys themselves, softmaxed with a scale that create_cache works out."""

    def __init__(self):
        super().__init__()
        self.gemm, self.share, self.best, self.heads, self.out = GeMM(), Softmax(dim=0), Max(dim=1), Max(dim=2), topK()

    def forward_indexer(self, q, o, cache, ctx):
        logit = self.gemm(q, cache["k"], ctx=ctx)
        self.share(logit, ctx=ctx)
        self.out(self.heads(self.best(logit, ctx=ctx), ctx=ctx), o, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        self.share.scale = head_dim**-0.5
        return {}


@register("two_streams")
class TwoStreams(_Envelope):
    def __init__(self):
        super().__init__()
        self.gemm, self.nearest, self.center = GeMM(), Max(dim=2), CMean(dim=1)
        self.first, self.second, self.union = TopK(6), TopK(k=5), Union()

    def forward_indexer(self, q, o, cache, ctx):
        near = self.nearest(self.gemm(q, cache["centers"], ctx=ctx), ctx=ctx)
        peak = self.best(self.bound(q, cache, ctx), ctx=ctx)
        tables, lengths = self.first(near, ctx=ctx)
        self.union((tables, lengths), self.second(peak, ctx=ctx), o, ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        super().forward_cache(cache, loc, ctx)
        self.center(cache["k"], cache["centers"], loc=loc, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        return {"centers": (1, head_dim), "unused": (1, 1), **super().create_cache(block_size, head_dim)}


@register("filled")
class Filled(BlockSparse):
    """A field that Fill sets, added to the score."""

    def __init__(self):
        super().__init__()
        self.fill, self.plus = CFill(alpha=2.0), Add()

    def forward_indexer(self, q, o, cache, ctx):
        score = self.gemm(self.mean(q, ctx=ctx), cache["centers"], ctx=ctx)
        self.out(self.plus(score, cache["two"], ctx=ctx), o, ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        super().forward_cache(cache, loc, ctx)
        self.fill(cache["two"], loc=loc, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        return {"centers": (1, head_dim), "two": (1, 1)}


@register("running_average")
class RunningAverage(BlockSparse):
    """r = half of what it was, and the score of this step."""

    def __init__(self):
        super().__init__()
        self.load, self.save, self.both, self.zero = Load(), Save(), Add(alpha=0.5, beta=1.0), CFill(0.0)

    def forward_indexer(self, q, o, cache, ctx):
        score = self.gemm(self.mean(q, ctx=ctx), cache["centers"], ctx=ctx)
        running = self.both(self.load(cache["running"], ctx=ctx), score, ctx=ctx)
        self.save(running, cache["running"], ctx=ctx)
        self.out(running, o, ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        super().forward_cache(cache, loc, ctx)
        self.zero(cache["running"], loc=loc, ctx=ctx)

    def create_cache(self, block_size, head_dim):
        return {"centers": (1, head_dim), "running": (1, 1)}


@register("heavy_hitter_tokens")
class HeavyHitterTokens(vFlow):
    """Blocks of one token: the keys themselves, softmaxed in place; the field is read before the op that saves it."""

    def __init__(self, decay: float = 0.984375):
        super().__init__()
        self.gemm, self.share, self.best, self.out = GeMM(), Softmax(dim=0, scale=1.0), Max(dim=2), topK()
        self.gather, self.save, self.zero = Add(alpha=1.0, beta=decay), Save(), CFill(alpha=0.0)

    def forward_indexer(self, q, o, cache, ctx):
        logit = self.gemm(q, cache["k"], ctx=ctx)
        self.share(logit, ctx=ctx)
        score = self.gather(self.best(logit, ctx=ctx), cache["gathered"], ctx=ctx)
        self.save(score, cache["gathered"], ctx=ctx)
        self.out(score, o, ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        self.zero(cache["gathered"], loc=loc, ctx=ctx)

    def create_cache(self, page_size, head_dim):
        assert page_size == 1, "made for blocks of one token"
        self.share.scale = head_dim**-0.5
        return {"gathered": (1, 1)}


@register("drifting_centers")
class DriftingCenters(BlockSparse):
    """A field that starts as forward_cache makes it and is changed by every step: centers drift towards the queries."""

    def __init__(self):
        super().__init__()
        self.drift, self.save = Add(alpha=0.75, beta=0.25), Save()

    def forward_indexer(self, q, o, cache, ctx):
        mean = self.mean(q, ctx=ctx)
        self.out(self.gemm(mean, cache["centers"], ctx=ctx), o, ctx=ctx)
        self.save(self.drift(cache["centers"], mean, ctx=ctx), cache["centers"], ctx=ctx)
