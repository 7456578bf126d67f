"""top_p: as many pages as it takes to hold most of the attention."""

import vortex_attention as vx


class TopP(vx.vFlow):
    """The fewest pages whose estimated shares add up to 0.9, at most 64 (after Lin et al., Twilight, 2025): long lists where attention
    is spread, short ones where it is sharp."""

    page_size = 16

    def summarize(self, page):
        page.mean = page.k.mean("token")

    def score(self, q, page):
        return vx.dot(q, page.mean, over="dim").softmax("page").mean("head")

    def select(self, score):
        return vx.top_p(score, 0.9) & vx.top_k(score, 64)
