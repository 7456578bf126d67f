import vortex_attention as vx


class Centroid(vx.vFlow):
    """The logit of the mean key of each page, as a share of all candidates (block selection as in MoBA, Lu et al., 2025)."""

    budget = 32

    def summarize(self, page):
        page.mean = page.k.mean("token")

    def score(self, q, page):
        logit = vx.dot(q, page.mean, over="dim")
        return logit.softmax("page").sum("head")
