import vortex_attention as vx


class SlowMeans(vx.vFlow):
    """The best mean of two neighbouring keys, in the half of the channels that RoPE turns slowest: they carry what a key is about,
    wherever it stands (Barbero et al., 2025; sub-pages as in LServe, Yang et al., 2025)."""

    budget = 32
    share = 0.5  # of the channels

    def summarize(self, page):
        slow = page.k.low_frequency("dim", self.share)
        page.means = slow.split("token", part=2).mean("part")

    def score(self, q, page):
        best = vx.dot(q.low_frequency("dim", self.share), page.means, over="dim").max("token")
        return best.softmax("page").sum("head")
