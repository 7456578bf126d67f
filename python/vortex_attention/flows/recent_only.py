import vortex_attention as vx


class RecentOnly(vx.vFlow):
    """Control: the first pages and the last ones up to the budget (attention sinks as in StreamingLLM, Xiao et al., 2023)."""

    budget = 32

    def score(self, page):
        return page.index
