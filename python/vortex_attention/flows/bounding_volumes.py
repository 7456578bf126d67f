"""bounding_volumes: pages as balls around their mean key."""

import vortex_attention as vx


class BoundingVolumes(vx.vFlow):
    """An upper bound of q·k over the ball that holds a page's keys (after Chen et al., ArkVale, 2024)."""

    page_size, budget = 16, 32

    def summarize(self, page):
        center = page.k.mean("token")
        page.center = center
        page.radius = (page.k - center).norm("dim").max("token")

    def score(self, q, page):
        bound = vx.dot(q, page.center, over="dim") + q.norm("dim") * page.radius
        return bound.softmax("page").sum("head")
