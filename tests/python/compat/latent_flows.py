"""The same for latent attention: vFlowMLA, one field "latent" of kv_lora_rank and qk_rope_head_dim channels."""

import torch
from vortex_torch.cache import Max as CMax
from vortex_torch.cache import Mean as CMean
from vortex_torch.cache import MeanInterleave as CMeanInterleave
from vortex_torch.cache import Min as CMin
from vortex_torch.flow import register
from vortex_torch.flow.flow_mla import vFlowMLA
from vortex_torch.indexer import Add, GeMM, MaskSlice, Max, Mean, Multiply, Relu, topK


class _Latent(vFlowMLA):
    def __init__(self):
        super().__init__()
        self.mean, self.gemm, self.out = Mean(dim=1), GeMM(), topK()
        self.center = CMean(dim=1)

    def forward_indexer(self, q: torch.Tensor, o, cache, ctx):
        self.out(self.gemm(self.mean(q, ctx=ctx), cache["centers"], ctx=ctx), o, ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        self.center(cache["latent"], cache["centers"], loc=loc, ctx=ctx)

    def create_cache(self, block_size: int, kv_lora_rank: int, qk_rope_head_dim: int):
        return {"centers": (1, kv_lora_rank + qk_rope_head_dim)}


@register("rope_aware")
class RopeAware(_Latent):
    pass


@register("latent_sub_blocks")
class LatentSubBlocks(_Latent):
    def __init__(self):
        super().__init__()
        self.best, self.center = Max(dim=1), CMeanInterleave(dim=1, k=4)

    def forward_indexer(self, q, o, cache, ctx):
        score = self.gemm(self.mean(q, ctx=ctx), cache["centers"], ctx=ctx)
        self.out(self.best(score, ctx=ctx), o, ctx=ctx)

    def create_cache(self, block_size, kv_lora_rank, qk_rope_head_dim):
        return {"centers": (block_size // 4, kv_lora_rank + qk_rope_head_dim)}


@register("latent_quest")
class LatentQuest(_Latent):
    """⟨relu(q̄), max⟩ + ⟨q̄ − relu(q̄), min⟩."""

    def __init__(self):
        super().__init__()
        self.up, self.down, self.above, self.below, self.both = Relu(), Add(1.0, -1.0), GeMM(), GeMM(), Add()
        self.hi, self.lo = CMax(dim=1), CMin(dim=1)

    def forward_indexer(self, q, o, cache, ctx):
        mean = self.mean(q, ctx=ctx)
        up = self.up(mean, ctx=ctx)
        down = self.down(mean, up, ctx=ctx)
        score = self.both(self.above(up, cache["hi"], ctx=ctx), self.below(down, cache["lo"], ctx=ctx), ctx=ctx)
        self.out(score, o, ctx=ctx)

    def forward_cache(self, cache, loc, ctx):
        self.hi(cache["latent"], cache["hi"], loc=loc, ctx=ctx)
        self.lo(cache["latent"], cache["lo"], loc=loc, ctx=ctx)

    def create_cache(self, block_size, kv_lora_rank, qk_rope_head_dim):
        width = kv_lora_rank + qk_rope_head_dim
        return {"hi": (1, width), "lo": (1, width)}


class _Weighted(_Latent):
    NOPE, A, B = 48, 1.0, 0.0

    def __init__(self):
        super().__init__()
        self.weight, self.mul = MaskSlice(start=0, end=self.NOPE, dim=2, alpha=self.A, beta=self.B), Multiply()

    def forward_indexer(self, q, o, cache, ctx):
        mean = self.mean(q, ctx=ctx)
        weighted = self.mul(mean, self.weight(mean, ctx=ctx), ctx=ctx)
        self.out(self.gemm(weighted, cache["centers"], ctx=ctx), o, ctx=ctx)

    def create_cache(self, block_size, kv_lora_rank, qk_rope_head_dim):
        assert kv_lora_rank == self.NOPE, f"made for kv_lora_rank {self.NOPE}, not {kv_lora_rank}"
        return super().create_cache(block_size, kv_lora_rank, qk_rope_head_dim)


@register("rope_unaware")
class RopeUnaware(_Weighted):
    pass


@register("rope_weighted")
class RopeWeighted(_Weighted):
    A, B = 0.75, 0.25
