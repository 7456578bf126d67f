"""two_streams: pages that are close on the average, and pages that hold one close token."""

import vortex_attention as vx


class TwoStreams(vx.vFlow):
    """Half of the pages by their mean key, half by Quest's bound (Tang et al., 2024); a page chosen twice leaves room for none."""

    page_size = 16

    def summarize(self, page):
        page.mean = page.k.mean("token")
        page.lo = page.k.min("token")
        page.hi = page.k.max("token")

    def score(self, q, page):
        near = vx.dot(q, page.mean, over="dim").softmax("page").sum("head")
        bound = vx.maximum(q * page.lo, q * page.hi).sum("dim").softmax("page").sum("head")
        return near, bound

    def select(self, score):
        near, bound = score
        return vx.top_k(near, 15) | vx.top_k(bound, 14)
