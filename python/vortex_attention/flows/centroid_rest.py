"""centroid_rest: the pages by their mean key, and what the others contribute estimated."""

import vortex_attention as vx


class CentroidRest(vx.vFlow):
    """Pages by the share of attention their mean key gets; a page that is not chosen still counts as its tokens at that key, with
    its mean value."""

    page_size, budget = 16, 32

    def summarize(self, page):
        page.key = page.k.mean("token")
        page.value = page.v.mean("token")

    def score(self, q, page):
        return vx.dot(q, page.key, over="dim").softmax("page").sum("head")

    def rest(self, q, page):
        return vx.dot(q, page.key, over="dim") + page.tokens.log(), page.value
