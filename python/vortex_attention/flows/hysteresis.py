"""hysteresis: pages chosen in one step are held on to in the next."""

import vortex_attention as vx


class Hysteresis(vx.vFlow):
    """Centroid selection whose choice does not flicker: a page that the last step chose counts half as much again, so another takes its
    place only when it is clearly better."""

    page_size, budget = 16, 32

    def summarize(self, page):
        page.mean = page.k.mean("token")

    def score(self, q, page):
        return vx.dot(q, page.mean, over="dim").softmax("page").sum("head")

    def select(self, score, page):
        held = page.keep("held", 0.0)
        chosen = vx.top_k(score * (1.0 + 0.5 * held))
        held.set(vx.where(chosen, 1.0, 0.0))
        return chosen
