"""Edits that take something from another flow: its score, or the pages that it would choose."""

from __future__ import annotations

import random

from ..graph import STATES, Graph, Node
from .base import RANKING, Around, Edit, NotHere, choose, fresh, live_of


def graft(graph: Graph, donor: Graph, value: int) -> int:
    """Copies `value` of the donor with all it stands on; sources are shared, summaries and states take free names."""
    copied: dict[int, int] = {}
    names: dict[str, str] = {}
    states: dict[str, str] = {}

    def copy(index: int) -> int:
        if index in copied:
            return copied[index]
        node = donor.nodes[index]
        if node.op == "summary":
            name = node.attributes["name"]
            if name not in names:
                made = copy(donor.summaries[name])
                names[name] = fresh(graph.summaries, name)
                graph.summaries[names[name]] = made
            new = graph.source("summary", name=names[name])
        elif node.op in STATES:
            name = node.attributes["name"]
            if name not in states:
                states[name] = fresh(graph.states, name)
                graph.states[states[name]] = -1  # taken; what it is set to comes below
            new = graph.source(node.op, **node.attributes | {"name": states[name]})
        elif not node.inputs:
            new = graph.source(node.op, **node.attributes)
        else:
            inputs = [copy(other) for other in node.inputs]
            graph.nodes.append(Node(node.op, inputs, dict(node.attributes), node.type))
            new = len(graph.nodes) - 1
        copied[index] = new
        return new

    made = copy(value)
    while waiting := [name for name, new in states.items() if graph.states[new] < 0]:
        for name in waiting:
            graph.states[states[name]] = copy(donor.states[name])
    return made


def _scoring(donors: list[Graph], rng: random.Random) -> Graph:
    return choose(rng, [donor for donor in donors if "score" in donor.roots])


def cross_scores(graph: Graph, rng: random.Random, around: Around) -> str:
    """The score of another flow added to this one's."""
    donor = _scoring(around.donors, rng)
    if "score" not in graph.roots:
        raise NotHere
    theirs = graft(graph, donor, donor.roots["score"])
    share = rng.choice((0.3, 1.0, 3.0))
    graph.roots["score"] = graph.add("add", graph.roots["score"], graph.add("mul", theirs, graph.constant(share)))
    return f"plus {share:g} times the score of {donor.name}"


def cross_sets(graph: Graph, rng: random.Random, around: Around) -> str:
    """Part of the pages by this score, part by another flow's."""
    donor = _scoring(around.donors, rng)
    if "score" not in graph.roots:
        raise NotHere
    theirs = graft(graph, donor, donor.roots["score"])
    share = rng.choice((0.25, 0.5, 0.75))
    left = graph.source("seq_left")
    mine = graph.add("floor", graph.add("mul", left, graph.constant(share)))
    first = graph.add("top_k", graph.roots.pop("score"), mine)
    graph.roots["select"] = graph.add("either", first, graph.add("top_k", theirs, graph.add("sub", left, mine)))
    return f"{share:g} of the pages by its own score, the others by that of {donor.name}"


def cross_stream(graph: Graph, rng: random.Random, around: Around) -> str:
    """What one of its sets ranks by gives way to the score of another flow."""
    donor = _scoring(around.donors, rng)
    place = choose(rng, live_of(graph, *RANKING))
    graph.nodes[place].inputs[0] = graft(graph, donor, donor.roots["score"])
    return f"{graph.nodes[place].op} ranks by the score of {donor.name}"


EDITS = [
    Edit("cross_scores", 1.0, cross_scores),
    Edit("cross_sets", 0.7, cross_sets),
    Edit("cross_stream", 0.5, cross_stream),
]
