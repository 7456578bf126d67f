import vortex_attention as vx


class Hierarchical(vx.vFlow):
    """Groups of pages first, then only the pages of the best groups (LServe's hierarchical paging, Yang et al., 2025), by Quest's bounds."""

    budget = 32

    def summarize(self, page):
        for part in (page, page.group(8)):
            part.lo = part.k.min("token")
            part.hi = part.k.max("token")

    def bound(self, q, part):
        return vx.maximum(q * part.lo, q * part.hi).sum("dim").softmax("page").sum("head")

    def score(self, q, page, seq):
        groups = vx.top_k(self.bound(q, page.group(8)), 0.25 * seq.left)  # twice the pages that are chosen in the end
        return self.bound(q, page.where(groups))
