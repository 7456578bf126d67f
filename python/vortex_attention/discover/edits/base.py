"""What every edit stands on: where a graph can be changed, and how a value is put in the place of another.

Nothing here decides whether a flow is valid: the language does, when the graph is built.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ..graph import Graph, Node

REDUCTIONS = ("sum", "mean", "max", "min", "norm", "logsumexp")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
UNARY = ("abs", "relu", "sqrt", "exp", "tanh", "sigmoid", "silu", "neg", "log")
SHAPES = ("split", "merge", "rename", "slice", "low_frequency", "confine", "spread", "members")
RANKING = ("top_k", "approx_top_k", "top_p")


class NotHere(Exception):
    """The graph has no place for this edit."""


@dataclass(frozen=True)
class Around:
    """What an edit may draw on beside the graph: other flows, and the number of layers of the model (0: unknown)."""

    donors: list[Graph] = field(default_factory=list)
    layers: int = 0


@dataclass(frozen=True)
class Edit:
    """apply changes the graph in place and says in a few words what it did, or raises NotHere. weight: how often it is drawn."""

    name: str
    weight: float
    apply: Callable[[Graph, random.Random, Around], str]


def choose(rng: random.Random, places: list):
    if not places:
        raise NotHere
    return rng.choice(places)


def live_of(graph: Graph, *ops: str) -> list[int]:
    """Live values of these ops, in order."""
    return [index for index in sorted(graph.live()) if graph.nodes[index].op in ops]


def numbers(graph: Graph) -> list[int]:
    """Values of the search: numbers that are not constants and not keys or values themselves."""
    return [
        index
        for index in sorted(graph.live())
        if graph.nodes[index].type is not None
        and graph.nodes[index].type.dtype != "set"
        and graph.nodes[index].op not in ("constant", "page_k", "page_v", "group_k", "group_v")
    ]


def score_of(graph: Graph) -> int:
    """One number a page that the flow ranks by."""
    if "score" in graph.roots:
        return graph.roots["score"]
    ranked = [graph.nodes[index].inputs[0] for index in live_of(graph, *RANKING)]
    if not ranked:
        raise NotHere
    return ranked[0]


def before_softmax(graph: Graph) -> int:
    """A logit a head, before it is softmaxed over the pages, and where that is not to be found the score."""
    score = score_of(graph)
    for index in sorted(graph.reach(score), reverse=True):
        node = graph.nodes[index]
        if node.op == "softmax" and node.attributes.get("axis") == "page":
            return node.inputs[0]
    return score


def insert_after(graph: Graph, value: int, op: str, *others: int, **attributes) -> int:
    """op(value, others) in the place of `value`."""
    before = len(graph.nodes)
    new = graph.add(op, value, *others, **attributes)
    graph.replace(value, new, but=set(range(before, len(graph.nodes))))
    return new


def fresh(taken: dict, stem: str) -> str:
    """A name that is not taken yet."""
    number, name = 2, stem
    while name in taken:
        name, number = f"{stem}{number}", number + 1
    return name


def summarize(graph: Graph, stem: str, value: int) -> int:
    """Declares `value` as a summary and returns what reads it."""
    name = fresh(graph.summaries, stem)
    graph.summaries[name] = value
    return graph.add("summary", name=name)


def remembered(graph: Graph) -> list[int]:
    """Reductions over the tokens of a page, each of which makes a summary or a part of one."""
    return [
        index
        for index in numbers(graph)
        if graph.nodes[index].op in REDUCTIONS
        and graph.nodes[index].attributes.get("axis") == "token"
        and "page_k" in graph.ops(graph.cone(index))
        and "summary" not in graph.ops(graph.cone(index))
    ]


def rebuild(graph: Graph, value: int, swap: Callable[[int, Node], int | None]) -> int:
    """`value` once more, with the values for which `swap` returns another in their place. What does not change is not copied."""
    done: dict[int, int] = {}

    def made(index: int) -> int:
        if index not in done:
            node = graph.nodes[index]
            other = swap(index, node)
            if other is None:
                inputs = [made(one) for one in node.inputs]
                other = index if inputs == node.inputs else graph.add(node.op, *inputs, **node.attributes)
            done[index] = other
        return done[index]

    return made(value)
