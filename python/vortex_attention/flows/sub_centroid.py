import vortex_attention as vx


class SubCentroid(vx.vFlow):
    """The best of four sub-page means: a page scores by its most promising four tokens (sub-pages as in LServe, Yang et al., 2025)."""

    budget = 32

    def summarize(self, page):
        page.means = page.k.split("token", part=4).mean("part")

    def score(self, q, page):
        best = vx.dot(q, page.means, over="dim").max("token")
        return best.softmax("page").sum("head")
