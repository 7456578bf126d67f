import vortex_attention as vx


class MeanDeviation(vx.vFlow):
    """The mean logit of a page plus a share of its spread, sqrt(Σ q²·var(k)), as for a normal distribution of keys."""

    budget = 32
    beta = 1.0  # deviations above the mean

    def summarize(self, page):
        page.mean = page.k.mean("token")
        deviation = page.k - page.mean
        page.variance = (deviation * deviation).mean("token")

    def score(self, q, page):
        logit = vx.dot(q, page.mean, over="dim")
        spread = vx.dot(q * q, page.variance, over="dim").sqrt()
        return (logit + self.beta * spread).softmax("page").sum("head")
