"""learned_indexer: pages by attention in a few learned channels. `vortex fit` makes its weights for a model."""

import vortex_attention as vx


class LearnedIndexer(vx.vFlow):
    """The best mean of four tokens, as queries and keys meet in 16 learned channels of each layer and KV head (after the lightning
    indexer of DeepSeek Sparse Attention, DeepSeek-AI, 2025, which learns them in training)."""

    budget = 32
    weights = "learned_indexer.safetensors"

    def summarize(self, page):
        means = page.k.split("token", sub=4).mean("sub")
        page.low = vx.dot(means, vx.param("wk", "dim", low=16), over="dim")

    def score(self, q, page):
        low = vx.dot(q, vx.param("wq", "dim", low=16), over="dim")
        return vx.dot(low, page.low, over="low").max("token").softmax("page").sum("head")
