"""Edits of settings: how many pages, of what size, pinned ones, layers and steps that share a set."""

from __future__ import annotations

import random

from ..graph import Graph
from .base import Around, Edit, NotHere, choose


def _budget(graph: Graph) -> int:
    pages = int(graph.config.get("budget", "0") or 0)
    if "budget" in graph.roots or not pages:
        raise NotHere
    return pages


def budget(graph: Graph, rng: random.Random, _: Around) -> str:
    """More or fewer pages a row."""
    pages = _budget(graph)
    new = max(4, round(pages * rng.choice((0.5, 0.67, 0.75, 0.85, 1.2, 1.5))))
    if new == pages:
        raise NotHere
    graph.config["budget"] = str(new)
    return f"{new} pages a row instead of {pages}"


def page_size(graph: Graph, rng: random.Random, _: Around) -> str:
    """Larger or smaller pages, as many tokens a row as before."""
    old, pages = int(graph.config["page_size"]), _budget(graph)
    new = choose(rng, [size for size in (16, 32, 64) if size != old])
    graph.config["page_size"] = str(new)
    graph.config["budget"] = str(max(4, pages * old // new))
    return f"pages of {new} tokens instead of {old}"


def pinned(graph: Graph, rng: random.Random, _: Around) -> str:
    """Other sinks or recent pages."""
    name = rng.choice(("sinks", "recent"))
    old = int(graph.config[name])
    new = max(1, old + rng.choice((-1, 1, 2)))
    if new == old:
        raise NotHere
    graph.config[name] = str(new)
    return f"{name} {new} instead of {old}"


def full_layers(graph: Graph, rng: random.Random, around: Around) -> str:
    """Other layers that stay unsparse."""
    old = graph.config.get("full_attention_layers", "none")
    sets = ["none", "0", "0,1"] + ([f"0,{around.layers - 1}"] if around.layers > 2 else [])
    new = choose(rng, [layers for layers in sets if layers != old])
    graph.config["full_attention_layers"] = new
    return f"full attention in layers {new} instead of {old}"


def reuse(graph: Graph, rng: random.Random, around: Around) -> str:
    """Layers that take the set of an earlier one; or all choose for themselves again."""
    if graph.config.pop("reuse", "none") != "none" and rng.random() < 0.5:
        return "every layer chooses for itself"
    if around.layers < 2:
        raise NotHere
    run, first = rng.choice((2, 3, 4)), rng.choice((0, 1, 2))
    full = {int(layer) for layer in graph.config.get("full_attention_layers", "none").split(",") if layer.isdigit()}
    takes = {layer: layer - (layer - first) % run for layer in range(first, around.layers) if (layer - first) % run}
    pairs = {layer: source for layer, source in takes.items() if not full & {layer, source}}
    if not pairs:
        raise NotHere
    graph.config["reuse"] = ",".join(f"{layer}:{source}" for layer, source in pairs.items())
    return f"{run} layers after another share a set, from layer {first} on"


def refresh(graph: Graph, rng: random.Random, _: Around) -> str:
    """A set is kept for several steps."""
    old = int(graph.config.get("refresh_every", "1"))
    new = choose(rng, [steps for steps in (1, 2, 4, 8) if steps != old])
    graph.config["refresh_every"] = str(new)
    return f"a set is chosen every {new} steps instead of every {old}"


EDITS = [
    Edit("budget", 2.0, budget),
    Edit("page_size", 0.4, page_size),
    Edit("pinned", 0.5, pinned),
    Edit("full_layers", 0.4, full_layers),
    Edit("reuse", 0.7, reuse),
    Edit("refresh", 0.7, refresh),
]
