"""Edits of what is computed: operations, numbers, and what they work on."""

from __future__ import annotations

import random

from ..graph import Graph
from .base import (
    BINARY,
    REDUCTIONS,
    SHAPES,
    UNARY,
    Around,
    Edit,
    NotHere,
    before_softmax,
    choose,
    insert_after,
    live_of,
    numbers,
    score_of,
)


def reduction(graph: Graph, rng: random.Random, _: Around) -> str:
    """Another reduction over the same axis."""
    place = graph.nodes[choose(rng, [index for index in numbers(graph) if graph.nodes[index].op in REDUCTIONS])]
    old = place.op
    place.op = rng.choice([op for op in REDUCTIONS if op != old])
    return f"{place.op} over {place.attributes['axis']} instead of {old}"


def axis(graph: Graph, rng: random.Random, _: Around) -> str:
    """A reduction over another axis of its operand."""
    places = []
    for index in numbers(graph):
        node = graph.nodes[index]
        if node.op in REDUCTIONS and (operand := graph.nodes[node.inputs[0]].type) is not None:
            places += [(node, other) for other in (*operand.axes, "page") if other != node.attributes["axis"]]
    node, other = choose(rng, places)
    old, node.attributes["axis"] = node.attributes["axis"], other
    if rng.random() < 0.5:  # and a later reduction, which finds its axis gone, takes the one that is left
        for user in graph.nodes:
            if user is not node and user.op in REDUCTIONS and user.attributes.get("axis") == other:
                user.attributes["axis"] = old
    return f"{node.op} over {other} instead of {old}"


def operation(graph: Graph, rng: random.Random, _: Around) -> str:
    """Another operation of two values."""
    place = graph.nodes[choose(rng, [index for index in numbers(graph) if graph.nodes[index].op in BINARY])]
    old = place.op
    place.op = rng.choice([op for op in BINARY if op != old])
    return f"{place.op} instead of {old}"


def insert(graph: Graph, rng: random.Random, _: Around) -> str:
    """A function of one value between it and its users."""
    value = choose(rng, numbers(graph))
    op = rng.choice(UNARY)
    insert_after(graph, value, op)
    return f"{op} after {graph.nodes[value].op}"


def drop(graph: Graph, rng: random.Random, _: Around) -> str:
    """A value gives way to one of its operands."""
    value = choose(
        rng, [index for index in numbers(graph) if graph.nodes[index].inputs and graph.nodes[index].op not in SHAPES]
    )
    operand = rng.choice(graph.nodes[value].inputs)
    graph.replace(value, operand)
    return f"without {graph.nodes[value].op}"


def constant(graph: Graph, rng: random.Random, _: Around) -> str:
    """Another number."""
    place = graph.nodes[choose(rng, live_of(graph, "constant"))]
    old = float(place.attributes["value"])
    factor = rng.choice((0.25, 0.5, 0.75, 1.5, 2.0, 4.0))
    place.attributes["value"] = (
        float(round(old * factor)) if old == round(old) and abs(old) >= 4 else (old * factor or 0.5)
    )
    return f"{place.attributes['value']:g} instead of {old:g}"


def weight(graph: Graph, rng: random.Random, _: Around) -> str:
    """A factor on one operand of a sum."""
    user = choose(
        rng, [index for index in numbers(graph) if graph.nodes[index].op in ("add", "sub", "maximum", "minimum")]
    )
    side = rng.randrange(2)
    factor = rng.choice((0.25, 0.5, 2.0, 4.0))
    graph.nodes[user].inputs[side] = graph.add("mul", graph.nodes[user].inputs[side], graph.constant(factor))
    return f"{factor:g} times an operand of {graph.nodes[user].op}"


def temperature(graph: Graph, rng: random.Random, _: Around) -> str:
    """Logits sharper or flatter before the softmax over pages."""
    factor = rng.choice((0.5, 0.7, 1.4, 2.0))
    logit = before_softmax(graph)
    if logit == score_of(graph):
        raise NotHere
    insert_after(graph, logit, "mul", graph.constant(factor))
    return f"logits times {factor:g}"


EDITS = [
    Edit("reduction", 1.0, reduction),
    Edit("axis", 0.5, axis),
    Edit("operation", 0.7, operation),
    Edit("insert", 0.7, insert),
    Edit("drop", 0.7, drop),
    Edit("constant", 1.0, constant),
    Edit("weight", 0.7, weight),
    Edit("temperature", 0.7, temperature),
]
