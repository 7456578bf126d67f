import vortex_attention as vx


class CentroidTree(vx.vFlow):
    """Centroids of groups of pages, then centroids of the pages of the best groups: the centroid flow in two levels."""

    budget = 32

    def summarize(self, page):
        page.mean = page.k.mean("token")
        group = page.group(8)
        group.mean = group.k.mean("token")

    def match(self, q, part):
        return vx.dot(q, part.mean, over="dim").softmax("page").sum("head")

    def score(self, q, page, seq):
        groups = vx.top_k(self.match(q, page.group(8)), 0.25 * seq.left)
        return self.match(q, page.where(groups))
