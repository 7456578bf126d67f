"""latent_content: latent attention routed by content alone."""

import vortex_attention as vx


class LatentContent(vx.vFlow):
    """The logit of the mean latent without its RoPE channels, so that where a page stands does not count (block sparse routing for MLA,
    DeepSeek-AI, 2024, without position; `centroid` on a latent has both parts). On models without a latent it is `centroid`."""

    page_size, budget = 16, 32

    def summarize(self, page):
        page.mean = page.k.nope().mean("token")

    def score(self, q, page):
        return vx.dot(q.nope(), page.mean, over="dim").softmax("page").sum("head")
