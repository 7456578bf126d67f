"""heavy_hitters: pages that attention has kept coming back to."""

import vortex_attention as vx


class HeavyHitters(vx.vFlow):
    """Pages by the attention they have gathered over the steps so far (after Zhang et al., H2O, 2023), fading by a tenth a step; attention
    is estimated from centroids, so a page that was not attended gathers too."""

    page_size, budget = 16, 32

    def summarize(self, page):
        page.mean = page.k.mean("token")

    def score(self, q, page):
        share = vx.dot(q, page.mean, over="dim").softmax("page").mean("head")
        gathered = page.keep("gathered", 0.0)
        total = 0.9 * gathered + share
        gathered.set(total)
        return total
