"""centroid_rest_groups: centroid_rest, with the others estimated from the means of groups of eight pages."""

import math

import vortex_attention as vx


class CentroidRestGroups(vx.vFlow):
    """Pages by the share of attention their mean key gets; a page that is not chosen counts as its tokens at the mean key of its
    group of eight, with the group's mean value."""

    budget = 32

    def summarize(self, page):
        page.key = page.k.mean("token")
        group = page.group(8)
        group.key, group.value = group.k.mean("token"), group.v.mean("token")

    def score(self, q, page):
        return vx.dot(q, page.key, over="dim").softmax("page").sum("head")

    def rest(self, q, page):
        group = page.group(8)  # pages of the last, unfilled group are left out
        logit = vx.dot(q, group.key, over="dim").spread(other=-math.inf)
        return logit + page.tokens.log(), group.value.spread(other=0)
