"""representatives: a few real keys stand for a page."""

import vortex_attention as vx


class Representatives(vx.vFlow):
    """Of each run of four tokens the key that the page's keys point to most; the best of them is what a page scores (after Xiao et al.,
    InfLLM, 2024, where later queries choose the keys)."""

    page_size, budget = 16, 32

    def summarize(self, page):
        runs = page.k.split("token", part=4)
        pointed = vx.dot(runs, page.k.mean("token"), over="dim")
        chosen = pointed == pointed.max("part")
        page.keys = (runs * chosen).sum("part") / chosen.sum("part")

    def score(self, q, page):
        best = vx.dot(q, page.keys, over="dim").max("token")
        return best.softmax("page").sum("head")
