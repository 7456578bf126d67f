"""Edits of hierarchy: groups of pages are scored first, and then only the pages of the best groups; or all pages again."""

from __future__ import annotations

import random

from ..graph import Graph, Node
from .base import Around, Edit, NotHere, fresh, live_of, rebuild


def hierarchy(graph: Graph, rng: random.Random, _: Around) -> str:
    """Groups by the flow's own score made of summaries of the group, then the pages of the best by it."""
    if "score" not in graph.roots or graph.ops(graph.live()) & {"members", "page_state", "seq_state"}:
        raise NotHere
    score, size, room = graph.roots["score"], rng.choice((4, 8, 16)), rng.choice((2, 3, 4))
    amount = graph.add("mul", graph.source("seq_left"), graph.constant(room / size))
    groups = graph.add("top_k", _of_groups(graph, score, size), amount)
    pages = graph.add("members", graph.add("spread", groups, other=1.0, size=1))

    def confined(index: int, node: Node) -> int | None:
        return graph.add("confine", index, pages) if node.op in ("summary", "page_index") else None

    graph.roots["score"] = rebuild(graph, score, confined)
    return f"groups of {size} pages first, then the pages of the best, {room} times those there is room for"


def _of_groups(graph: Graph, score: int, size: int) -> int:
    """The score of a group: that of a page, with the keys and values of the group in the place of the page's."""
    names: dict[str, str] = {}

    def source(_: int, node: Node) -> int | None:
        return graph.source(node.op.replace("page", "group"), size=size) if node.op in ("page_k", "page_v") else None

    def swap(_: int, node: Node) -> int | None:
        if node.op == "page_index":
            return graph.source("group_index", size=size)
        if node.op != "summary":
            return None
        name = node.attributes["name"]
        if name not in names:
            made = rebuild(graph, graph.summaries[name], source)
            names[name] = fresh(graph.summaries, f"group_{name}")
            graph.summaries[names[name]] = made
        return graph.source("summary", name=names[name])

    return rebuild(graph, score, swap)


def flat(graph: Graph, rng: random.Random, _: Around) -> str:
    """Every page is scored again."""
    places = live_of(graph, "confine")
    if not places:
        raise NotHere
    for index in places:
        graph.replace(index, graph.nodes[index].inputs[0])
    return "every page is scored, not those of a set alone"


EDITS = [Edit("hierarchy", 1.0, hierarchy), Edit("flat", 0.4, flat)]
