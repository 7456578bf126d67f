import vortex_attention as vx


class RandomPages(vx.vFlow):
    """Control: pages at random, others in each layer and at each step. A flow that does not beat it has found no signal."""

    budget = 32

    def score(self, page, seq, layer):
        return vx.random(vx.random(page.index, seq.step), layer.index)
