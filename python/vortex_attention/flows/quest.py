import vortex_attention as vx


class Quest(vx.vFlow):
    """An upper bound of q·k over each page (Tang et al., Quest, 2024)."""

    budget = 32

    def summarize(self, page):
        page.lo = page.k.min("token")
        page.hi = page.k.max("token")

    def score(self, q, page):
        bound = vx.maximum(q * page.lo, q * page.hi).sum("dim")
        return bound.softmax("page").sum("head")
