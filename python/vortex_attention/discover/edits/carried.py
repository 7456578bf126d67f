"""Edits of state: what a flow carries from one step to the next. It is of pages, of one number each."""

from __future__ import annotations

import random

from ..graph import STATES, Graph
from .base import Around, Edit, NotHere, choose, fresh, live_of, score_of


def _of_pages(graph: Graph) -> int:
    score = score_of(graph)
    if graph.nodes[score].type is None or graph.nodes[score].type.domain != "page":
        raise NotHere
    return score


def gather(graph: Graph, rng: random.Random, _: Around) -> str:
    """Scores of earlier steps count on, fading."""
    score, fade = _of_pages(graph), rng.choice((0.5, 0.8, 0.9))
    name = fresh(graph.states, "gathered")
    before = graph.add("page_state", name=name, initial=0.0, axes="")
    total = graph.add("add", graph.add("mul", before, graph.constant(fade)), score)
    graph.replace(score, total, but={total})
    graph.states[name] = total
    return f"plus {fade:g} times the score of the step before"


def hold(graph: Graph, rng: random.Random, _: Around) -> str:
    """Pages that were chosen in the step before count for more."""
    if "score" not in graph.roots:
        raise NotHere
    score, more = _of_pages(graph), rng.choice((0.1, 0.25, 0.5, 1.0))
    name = fresh(graph.states, "held")
    before = graph.add("page_state", name=name, initial=0.0, axes="")
    favoured = graph.add(
        "mul", score, graph.add("add", graph.constant(1.0), graph.add("mul", before, graph.constant(more)))
    )
    del graph.roots["score"]
    chosen = graph.roots["select"] = graph.add("top_k", favoured, graph.source("seq_left"))
    graph.states[name] = graph.add("where", chosen, graph.constant(1.0), graph.constant(0.0))
    return f"pages of the step before count {more:g} more"


def forget(graph: Graph, rng: random.Random, _: Around) -> str:
    """A state is what it is before the first step."""
    place = choose(rng, live_of(graph, *STATES))
    node = graph.nodes[place]
    graph.replace(place, graph.constant(node.attributes["initial"]))
    graph.states.pop(node.attributes["name"], None)
    return f"without the state {node.attributes['name']}"


EDITS = [Edit("gather", 0.7, gather), Edit("hold", 0.5, hold), Edit("forget", 0.4, forget)]
