"""Edits of what is remembered of a page, and of which side of the summaries a value is computed on."""

from __future__ import annotations

import random

from ..graph import Graph
from .base import (
    Around,
    Edit,
    NotHere,
    before_softmax,
    choose,
    insert_after,
    live_of,
    numbers,
    rebuild,
    remembered,
    summarize,
)


def sub_pages(graph: Graph, rng: random.Random, _: Around) -> str:
    """Several of a summary, one for each run of tokens; the page scores by its best."""
    places = remembered(graph)
    if not places:
        raise NotHere
    size = rng.choice((2, 4, 8))
    logit = before_softmax(graph)
    for index in places:
        node = graph.nodes[index]
        node.inputs[0] = graph.add("split", node.inputs[0], axis="token", name="part", size=size)
        node.attributes = {"axis": "part"}
    insert_after(graph, logit, "max", axis="token")
    return f"summaries of {size} tokens each, the best counts"


def coarser(graph: Graph, rng: random.Random, _: Around) -> str:
    """Runs of tokens of another length."""
    place = graph.nodes[choose(rng, live_of(graph, "split"))]
    old = int(place.attributes["size"])
    new = rng.choice([size for size in (2, 4, 8) if size != old])
    for index in live_of(graph, "split"):
        if int(graph.nodes[index].attributes["size"]) == old:
            graph.nodes[index].attributes["size"] = new
    return f"runs of {new} tokens instead of {old}"


def slow_channels(graph: Graph, rng: random.Random, _: Around) -> str:
    """Score with the channels that RoPE turns slowest, or with another share of them."""
    share = rng.choice((0.25, 0.375, 0.5, 0.75))
    there = live_of(graph, "low_frequency")
    if there:
        old = graph.nodes[there[0]].attributes["share"]
        if old == share:
            raise NotHere
        for index in there:
            graph.nodes[index].attributes["share"] = share
        return f"{share:g} of the channels instead of {old:g}"
    sources = [index for op in ("q", "page_k", "group_k") for index in live_of(graph, op)]
    if not {graph.nodes[index].op for index in sources} >= {"q", "page_k"}:
        raise NotHere
    for index in sources:
        insert_after(graph, index, "low_frequency", axis="dim", share=share)
    return f"only the {share:g} of the channels that turn slowest"


def stream(graph: Graph, rng: random.Random, _: Around) -> str:
    """Another summary of the keys, its logit added to or set against the one there is."""
    logit = before_softmax(graph)
    key, q = graph.source("page_k"), graph.source("q")
    kind = rng.choice(("mean", "max", "min", "deviation"))
    if kind == "deviation":
        apart = graph.add("sub", key, graph.add("mean", key, axis="token"))
        seen = summarize(graph, "variance", graph.add("mean", graph.add("mul", apart, apart), axis="token"))
        term = graph.add("sqrt", graph.add("relu", graph.add("dot", graph.add("mul", q, q), seen, over="dim")))
    else:
        term = graph.add("dot", q, summarize(graph, kind, graph.add(kind, key, axis="token")), over="dim")
    how = rng.choice(("add", "maximum"))
    scaled = graph.add("mul", term, graph.constant(rng.choice((0.25, 0.5, 1.0))))
    new = graph.add(how, logit, scaled)
    graph.replace(logit, new, but={new})
    return f"{how} the logit of each page's {kind}"


def value_norm(graph: Graph, rng: random.Random, _: Around) -> str:
    """Pages with larger values count for more (as in value-aware selection)."""
    seen = summarize(
        graph, "value_norm", graph.add("mean", graph.add("norm", graph.source("page_v"), axis="dim"), axis="token")
    )
    logit = before_softmax(graph)
    new = graph.add(
        "add", logit, graph.add("mul", graph.add("log", seen), graph.constant(rng.choice((0.25, 0.5, 1.0))))
    )
    graph.replace(logit, new, but={new})
    return "plus the log of the norm of a page's values"


def hoist(graph: Graph, rng: random.Random, _: Around) -> str:
    """What a score makes of summaries alone is made once, when the page is full, and remembered in their place."""
    places = [
        index
        for index in numbers(graph)
        if graph.nodes[index].inputs
        and "summary" in (ops := graph.ops(graph.cone(index)))
        and not ops & {"q", "page_k", "page_v", "group_k", "group_v"}
        and all(
            graph.nodes[leaf].op in ("summary", "constant")
            for leaf in graph.cone(index)
            if not graph.nodes[leaf].inputs
        )
    ]
    value = choose(rng, places)
    made = rebuild(
        graph, value, lambda _, node: graph.summaries[node.attributes["name"]] if node.op == "summary" else None
    )
    graph.replace(value, summarize(graph, "made", made))
    return f"{graph.nodes[value].op} is computed once a page and remembered"


def share(graph: Graph, rng: random.Random, _: Around) -> str:
    """One summary serves for two."""
    readers = live_of(graph, "summary")
    pairs = [
        (kept, gone)
        for kept in readers
        for gone in readers
        if graph.nodes[kept].attributes["name"] != graph.nodes[gone].attributes["name"]
        and graph.nodes[kept].type == graph.nodes[gone].type
    ]
    kept, gone = choose(rng, pairs)
    graph.replace(gone, kept)
    return f"{graph.nodes[kept].attributes['name']} serves for {graph.nodes[gone].attributes['name']} too"


EDITS = [
    Edit("sub_pages", 1.5, sub_pages),
    Edit("coarser", 1.5, coarser),
    Edit("slow_channels", 2.0, slow_channels),
    Edit("stream", 1.5, stream),
    Edit("value_norm", 1.0, value_norm),
    Edit("hoist", 0.5, hoist),
    Edit("share", 0.5, share),
]
