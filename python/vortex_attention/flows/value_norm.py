"""value_norm: pages by what they would add to the output."""

import vortex_attention as vx


class ValueNorm(vx.vFlow):
    """The share of attention of the mean key, times the norm of the page's values (after Guo et al., VATP, 2024)."""

    page_size, budget = 16, 32

    def summarize(self, page):
        page.mean = page.k.mean("token")
        page.weight = page.v.norm("dim").mean("token")

    def score(self, q, page):
        return vx.dot(q, page.mean, over="dim").softmax("page").sum("head") * page.weight
