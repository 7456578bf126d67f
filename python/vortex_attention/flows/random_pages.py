import vortex_attention as vx


class RandomPages(vx.vFlow):
    """Control: pages at random, others in each sequence, head, layer and step. A flow that does not beat it has found no signal.

    A page's number is a hash of its index, the largest channel of the row's query and the layer: it depends on what the row
    asks, never on how the page answers. Rows share their pages only where they ask the same.
    """

    budget = 32

    def score(self, q, page, layer):
        row = q.max("dim").max("head")  # a number of q itself: nothing is rounded
        return vx.random(vx.random(page.index, row), layer.index)
