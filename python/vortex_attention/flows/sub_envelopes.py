"""sub_envelopes: Quest's bound over runs of four tokens."""

import vortex_attention as vx


class SubEnvelopes(vx.vFlow):
    """An upper bound of q·k over each run of four tokens, the largest of a page (Tang et al., Quest, 2024; sub-pages as in LServe, Yang
    et al., 2025)."""

    page_size, budget = 16, 32

    def summarize(self, page):
        runs = page.k.split("token", part=4)
        page.lo = runs.min("part")
        page.hi = runs.max("part")

    def score(self, q, page):
        bound = vx.maximum(q * page.lo, q * page.hi).sum("dim").max("token")
        return bound.softmax("page").sum("head")
