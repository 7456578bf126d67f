"""Edits of how pages are chosen: the vote of heads, sets and their amounts, budgets that are computed, what is not chosen."""

from __future__ import annotations

import random

from ..graph import Graph
from .base import RANKING, REDUCTIONS, Around, Edit, NotHere, before_softmax, choose, live_of, score_of, summarize


def place_in_sequence(graph: Graph, rng: random.Random, _: Around) -> str:
    """A preference for later or earlier pages."""
    logit = before_softmax(graph)
    share = graph.add("div", graph.source("page_index"), graph.source("seq_pages"))
    new = graph.add("add", logit, graph.add("mul", share, graph.constant(rng.choice((-1.0, -0.5, 0.5, 1.0, 2.0)))))
    graph.replace(logit, new, but={new})
    return "plus a share of the page's place in the sequence"


def head_vote(graph: Graph, rng: random.Random, _: Around) -> str:
    """Heads agree in another way: softmax over pages or not, the sum or the best."""
    score = graph.nodes[score_of(graph)]
    if score.op not in REDUCTIONS or score.attributes.get("axis") != "head":
        raise NotHere
    inner = graph.nodes[score.inputs[0]]
    if inner.op == "softmax" and rng.random() < 0.5:
        score.inputs[0] = inner.inputs[0]
        return "heads vote with their logits"
    if inner.op != "softmax":
        score.inputs[0] = graph.add("softmax", score.inputs[0], axis="page")
        return "heads vote with their share of each page"
    old, score.op = score.op, rng.choice([op for op in ("sum", "max", "norm") if op != score.op])
    return f"{score.op} over the heads instead of {old}"


def rest(graph: Graph, rng: random.Random, _: Around) -> str:
    """What is not chosen still counts, estimated from its mean key and value; or no longer."""
    if "rest_logit" in graph.roots:
        del graph.roots["rest_logit"], graph.roots["rest_value"]
        return "pages that are not chosen are dropped"
    key = summarize(graph, "rest_key", graph.add("mean", graph.source("page_k"), axis="token"))
    value = summarize(graph, "rest_value", graph.add("mean", graph.source("page_v"), axis="token"))
    logit = graph.add("dot", graph.source("q"), key, over="dim")
    graph.roots["rest_logit"] = graph.add("add", logit, graph.add("log", graph.source("page_tokens")))
    graph.roots["rest_value"] = value
    return "pages that are not chosen count by their mean key and value"


def nucleus(graph: Graph, rng: random.Random, _: Around) -> str:
    """As many pages as hold a share of the score, within the budget."""
    score = score_of(graph)
    share = rng.choice((0.8, 0.9, 0.95, 0.98))
    chosen = graph.add("top_k", score, graph.source("seq_left"))
    enough = graph.add("top_p", score, graph.constant(share))
    graph.roots.pop("score", None)
    graph.roots["select"] = graph.add("both", chosen, enough)
    return f"no more pages than hold {share:g} of the score"


def _chosen(graph: Graph) -> int:
    """The set that the flow selects; of one that only scores, its best pages."""
    if "select" in graph.roots:
        return graph.roots["select"]
    if "score" not in graph.roots:
        raise NotHere
    return graph.add("top_k", graph.roots.pop("score"), graph.source("seq_left"))


def widen(graph: Graph, rng: random.Random, _: Around) -> str:
    """The first or last pages of the sequence beside those chosen."""
    chosen, pages = _chosen(graph), rng.choice((2, 4, 8))
    op = rng.choice(("first", "last"))
    if op == "first":
        more = graph.add("first", graph.source("page_index"), graph.constant(pages))
    else:
        more = graph.add("last", graph.source("page_index"), graph.constant(pages), graph.source("seq_pages"))
    graph.roots["select"] = graph.add("either", chosen, more)
    return f"and the {op} {pages} pages"


def sets(graph: Graph, rng: random.Random, _: Around) -> str:
    """One side of a union or an intersection alone, or the other of the two."""
    place = choose(rng, live_of(graph, "either", "both"))
    node = graph.nodes[place]
    if rng.random() < 0.4:
        old, node.op = node.op, "both" if node.op == "either" else "either"
        return f"{node.op} instead of {old} of two sets"
    kept = rng.choice(node.inputs)
    graph.replace(place, kept)
    return f"only {graph.nodes[kept].op} of two sets"


def amount(graph: Graph, rng: random.Random, _: Around) -> str:
    """A set of another size: a share of the pages there is room for, or those that hold a share of the score."""
    place = choose(rng, live_of(graph, "top_k", "top_p"))
    node, share = graph.nodes[place], rng.choice((0.25, 0.5, 0.75))
    if node.op == "top_p":
        node.op, node.inputs[1] = "top_k", graph.add("mul", graph.source("seq_left"), graph.constant(share))
        return f"{share:g} of the pages there is room for"
    node.inputs[1] = graph.add("mul", node.inputs[1], graph.constant(share))
    return f"a set of {share:g} times its size"


def streams(graph: Graph, rng: random.Random, _: Around) -> str:
    """Two sets change the scores that they rank by."""
    ranked = live_of(graph, *RANKING)
    pairs = [(a, b) for a in ranked for b in ranked if a < b and graph.nodes[a].inputs[0] != graph.nodes[b].inputs[0]]
    one, other = (graph.nodes[index] for index in choose(rng, pairs))
    one.inputs[0], other.inputs[0] = other.inputs[0], one.inputs[0]
    return f"{one.op} and {other.op} change scores"


def budget_program(graph: Graph, rng: random.Random, around: Around) -> str:
    """A budget that follows the layer or the length of the sequence; or a plain number again."""
    pages = int(graph.config.get("budget", "0") or 0)
    if "budget" in graph.roots and rng.random() < 0.5:
        del graph.roots["budget"]
        graph.config["budget"] = "32"
        return "32 pages a row, whatever the layer and the length"
    pages = pages or 32
    kind = rng.choice(("layers", "length", "root"))
    if kind == "layers":
        first = rng.randrange(1, max(2, around.layers // 2 or 8))
        more, less = round(pages * rng.choice((1.5, 2.0))), max(4, round(pages * rng.choice((0.5, 0.75))))
        early = graph.add("less", graph.source("layer_index"), graph.constant(first))
        made, said = (
            graph.add("where", early, graph.constant(more), graph.constant(less)),
            f"{more} pages below layer {first}, {less} above",
        )
    elif kind == "length":
        share = rng.choice((0.05, 0.1, 0.15))
        made = graph.add(
            "maximum",
            graph.constant(max(8, pages // 2)),
            graph.add("mul", graph.source("seq_pages"), graph.constant(share)),
        )
        said = f"{share:g} of the pages, at least {max(8, pages // 2)}"
    else:  # as many as before at 256 pages
        made, said = (
            graph.add("mul", graph.add("sqrt", graph.source("seq_pages")), graph.constant(pages / 16)),
            "pages like the root of the length",
        )
    graph.roots["budget"] = made
    graph.config["budget"] = "0"
    return said


EDITS = [
    Edit("place_in_sequence", 0.5, place_in_sequence),
    Edit("head_vote", 1.0, head_vote),
    Edit("rest", 1.0, rest),
    Edit("nucleus", 0.7, nucleus),
    Edit("widen", 0.4, widen),
    Edit("sets", 0.5, sets),
    Edit("amount", 0.5, amount),
    Edit("streams", 0.4, streams),
    Edit("budget_program", 0.7, budget_program),
]
