"""The edits of the built-in agent: each changes a graph in place and says in a few words what it did, or raises NotHere.

An edit only has to make sense, not to be valid: what the language refuses is dropped and another is drawn. EDITS lists them with
how often each is drawn.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Callable

from .graph import Graph, Node

REDUCTIONS = ("sum", "mean", "max", "min", "norm", "logsumexp")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
UNARY = ("abs", "relu", "sqrt", "exp", "tanh", "sigmoid", "silu", "neg", "log")
SHAPES = ("split", "merge", "rename", "slice", "low_frequency")


class NotHere(Exception):
    """The graph has no place for this edit."""


@dataclass(frozen=True)
class Edit:
    name: str
    weight: float
    apply: Callable[[Graph, random.Random, list[Graph]], str]


def _choose(rng: random.Random, places: list):
    if not places:
        raise NotHere
    return rng.choice(places)


def _numbers(graph: Graph) -> list[int]:
    """Values of the search: numbers that are not constants and not keys or values themselves."""
    return [index for index in sorted(graph.live())
            if graph.nodes[index].type is not None and graph.nodes[index].type.dtype != "set"
            and graph.nodes[index].op not in ("constant", "page_k", "page_v")]


def _score(graph: Graph) -> int:
    """One number a page that the flow ranks by."""
    if "score" in graph.roots:
        return graph.roots["score"]
    ranked = [node.inputs[0] for index in sorted(graph.live()) for node in (graph.nodes[index],) if node.op in ("top_k", "top_p")]
    if not ranked:
        raise NotHere
    return ranked[0]


def _before_softmax(graph: Graph) -> int:
    """A logit a head, before it is softmaxed over the pages, and where that is not to be found the score."""
    for index in sorted(graph.reach(_score(graph)), reverse=True):
        node = graph.nodes[index]
        if node.op == "softmax" and node.attributes.get("axis") == "page":
            return node.inputs[0]
    return _score(graph)


def _insert(graph: Graph, value: int, op: str, *others: int, **attributes) -> int:
    """op(value, others) in the place of `value`."""
    before = len(graph.nodes)
    new = graph.add(op, value, *others, **attributes)
    graph.replace(value, new, but=set(range(before, len(graph.nodes))))
    return new


def _fresh(graph: Graph, stem: str) -> str:
    number = 2
    name = stem
    while name in graph.summaries:
        name, number = f"{stem}{number}", number + 1
    return name


def _summarize(graph: Graph, stem: str, value: int) -> int:
    """Declares `value` as a summary and returns what reads it."""
    name = _fresh(graph, stem)
    graph.summaries[name] = value
    return graph.add("summary", name=name)


# --- settings ------------------------------------------------------------------------------------------------------------

def budget(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """More or fewer pages a row."""
    if "budget" in graph.roots or graph.config.get("budget", "0") in ("0", ""):
        raise NotHere
    pages = int(graph.config["budget"])
    new = max(4, round(pages * rng.choice((0.5, 0.67, 0.75, 0.85, 1.2, 1.5))))
    if new == pages:
        raise NotHere
    graph.config["budget"] = str(new)
    return f"{new} pages a row instead of {pages}"


def pinned(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Other sinks or recent pages."""
    name = rng.choice(("sinks", "recent"))
    old = int(graph.config[name])
    new = max(1, old + rng.choice((-1, 1, 2)))
    if new == old:
        raise NotHere
    graph.config[name] = str(new)
    return f"{name} {new} instead of {old}"


# --- what is computed ----------------------------------------------------------------------------------------------------

def reduction(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Another reduction over the same axis."""
    place = graph.nodes[_choose(rng, [index for index in _numbers(graph) if graph.nodes[index].op in REDUCTIONS])]
    old = place.op
    place.op = rng.choice([op for op in REDUCTIONS if op != old])
    return f"{place.op} over {place.attributes['axis']} instead of {old}"


def operation(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Another operation of two values."""
    place = graph.nodes[_choose(rng, [index for index in _numbers(graph) if graph.nodes[index].op in BINARY])]
    old = place.op
    place.op = rng.choice([op for op in BINARY if op != old])
    return f"{place.op} instead of {old}"


def insert(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """A function of one value between it and its users."""
    value = _choose(rng, _numbers(graph))
    op = rng.choice(UNARY)
    _insert(graph, value, op)
    return f"{op} after {graph.nodes[value].op}"


def drop(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """A value gives way to one of its operands."""
    value = _choose(rng, [index for index in _numbers(graph) if graph.nodes[index].inputs and graph.nodes[index].op not in SHAPES])
    operand = rng.choice(graph.nodes[value].inputs)
    graph.replace(value, operand)
    return f"without {graph.nodes[value].op}"


def constant(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Another number."""
    place = graph.nodes[_choose(rng, [index for index in sorted(graph.live()) if graph.nodes[index].op == "constant"])]
    old = float(place.attributes["value"])
    factor = rng.choice((0.25, 0.5, 0.75, 1.5, 2.0, 4.0))
    place.attributes["value"] = float(round(old * factor)) if old == round(old) and abs(old) >= 4 else (old * factor or 0.5)
    return f"{place.attributes['value']:g} instead of {old:g}"


def weight(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """A factor on one operand of a sum."""
    user = _choose(rng, [index for index in _numbers(graph) if graph.nodes[index].op in ("add", "sub", "maximum", "minimum")])
    side = rng.randrange(2)
    factor = rng.choice((0.25, 0.5, 2.0, 4.0))
    graph.nodes[user].inputs[side] = graph.add("mul", graph.nodes[user].inputs[side], graph.constant(factor))
    return f"{factor:g} times an operand of {graph.nodes[user].op}"


def temperature(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Logits sharper or flatter before the softmax over pages."""
    factor = rng.choice((0.5, 0.7, 1.4, 2.0))
    logit = _before_softmax(graph)
    if logit == _score(graph):
        raise NotHere
    _insert(graph, logit, "mul", graph.constant(factor))
    return f"logits times {factor:g}"


# --- what is remembered --------------------------------------------------------------------------------------------------

def _remembered(graph: Graph) -> list[int]:
    """Reductions over the tokens of a page."""
    return [index for index in _numbers(graph) if graph.nodes[index].op in REDUCTIONS and graph.nodes[index].attributes.get("axis") == "token"
            and "page_k" in {graph.nodes[i].op for i in graph.reach(index)} and "summary" not in {graph.nodes[i].op for i in graph.reach(index)}]


def sub_pages(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Several of a summary, one for each run of tokens; the page scores by its best."""
    places = _remembered(graph)
    if not places:
        raise NotHere
    size = rng.choice((2, 4, 8))
    logit = _before_softmax(graph)
    for index in places:
        node = graph.nodes[index]
        node.inputs[0] = graph.add("split", node.inputs[0], axis="token", name="part", size=size)
        node.attributes = {"axis": "part"}
    _insert(graph, logit, "max", axis="token")
    return f"summaries of {size} tokens each, the best counts"


def coarser(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Runs of tokens of another length."""
    place = graph.nodes[_choose(rng, [index for index in sorted(graph.live()) if graph.nodes[index].op == "split"])]
    old = int(place.attributes["size"])
    new = rng.choice([size for size in (2, 4, 8) if size != old])
    for index in graph.live():
        if graph.nodes[index].op == "split" and int(graph.nodes[index].attributes["size"]) == old:
            graph.nodes[index].attributes["size"] = new
    return f"runs of {new} tokens instead of {old}"


def slow_channels(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Score with the channels that RoPE turns slowest, or with another share of them."""
    share = rng.choice((0.25, 0.375, 0.5, 0.75))
    there = [index for index in sorted(graph.live()) if graph.nodes[index].op == "low_frequency"]
    if there:
        old = graph.nodes[there[0]].attributes["share"]
        if old == share:
            raise NotHere
        for index in there:
            graph.nodes[index].attributes["share"] = share
        return f"{share:g} of the channels instead of {old:g}"
    for source in ("q", "page_k"):
        index = _choose(rng, [index for index in sorted(graph.live()) if graph.nodes[index].op == source])
        _insert(graph, index, "low_frequency", axis="dim", share=share)
    return f"only the {share:g} of the channels that turn slowest"


def stream(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Another summary of the keys, its logit added to or set against the one there is."""
    logit = _before_softmax(graph)
    key, q = graph.source("page_k"), graph.source("q")
    kind = rng.choice(("mean", "max", "min", "deviation"))
    if kind == "deviation":
        apart = graph.add("sub", key, graph.add("mean", key, axis="token"))
        seen = _summarize(graph, "variance", graph.add("mean", graph.add("mul", apart, apart), axis="token"))
        term = graph.add("sqrt", graph.add("relu", graph.add("dot", graph.add("mul", q, q), seen, over="dim")))
    else:
        term = graph.add("dot", q, _summarize(graph, kind, graph.add(kind, key, axis="token")), over="dim")
    how = rng.choice(("add", "maximum"))
    scaled = graph.add("mul", term, graph.constant(rng.choice((0.25, 0.5, 1.0))))
    new = graph.add(how, logit, scaled)
    graph.replace(logit, new, but={new})
    return f"{how} the logit of each page's {kind}"


def value_norm(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Pages with larger values count for more (as in value-aware selection)."""
    seen = _summarize(graph, "value_norm", graph.add("mean", graph.add("norm", graph.source("page_v"), axis="dim"), axis="token"))
    logit = _before_softmax(graph)
    new = graph.add("add", logit, graph.add("mul", graph.add("log", seen), graph.constant(rng.choice((0.25, 0.5, 1.0)))))
    graph.replace(logit, new, but={new})
    return "plus the log of the norm of a page's values"


def place_in_sequence(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """A preference for later or earlier pages."""
    logit = _before_softmax(graph)
    share = graph.add("div", graph.source("page_index"), graph.source("seq_pages"))
    new = graph.add("add", logit, graph.add("mul", share, graph.constant(rng.choice((-1.0, -0.5, 0.5, 1.0, 2.0)))))
    graph.replace(logit, new, but={new})
    return "plus a share of the page's place in the sequence"


# --- what is chosen ------------------------------------------------------------------------------------------------------

def head_vote(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """Heads agree in another way: softmax over pages or not, the sum or the best."""
    score = graph.nodes[_score(graph)]
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


def rest(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """What is not chosen still counts, estimated from its mean key and value; or no longer."""
    if "rest_logit" in graph.roots:
        del graph.roots["rest_logit"], graph.roots["rest_value"]
        return "pages that are not chosen are dropped"
    key = _summarize(graph, "rest_key", graph.add("mean", graph.source("page_k"), axis="token"))
    value = _summarize(graph, "rest_value", graph.add("mean", graph.source("page_v"), axis="token"))
    logit = graph.add("dot", graph.source("q"), key, over="dim")
    graph.roots["rest_logit"] = graph.add("add", logit, graph.add("log", graph.source("page_tokens")))
    graph.roots["rest_value"] = value
    return "pages that are not chosen count by their mean key and value"


def nucleus(graph: Graph, rng: random.Random, _: list[Graph]) -> str:
    """As many pages as hold a share of the score, within the budget."""
    score = _score(graph)
    share = rng.choice((0.8, 0.9, 0.95, 0.98))
    chosen = graph.add("top_k", score, graph.source("seq_left"))
    enough = graph.add("top_p", score, graph.constant(share))
    graph.roots.pop("score", None)
    graph.roots["select"] = graph.add("both", chosen, enough)
    return f"no more pages than hold {share:g} of the score"


# --- from two parents ----------------------------------------------------------------------------------------------------

def graft(graph: Graph, donor: Graph, value: int) -> int:
    """Copies `value` of the donor with all it stands on; sources are shared, summaries take free names."""
    copied: dict[int, int] = {}
    names: dict[str, str] = {}

    def copy(index: int) -> int:
        if index in copied:
            return copied[index]
        node = donor.nodes[index]
        if node.op == "summary":
            name = node.attributes["name"]
            if name not in names:
                made = copy(donor.summaries[name])
                names[name] = _fresh(graph, name)
                graph.summaries[names[name]] = made
            new = graph.source("summary", name=names[name])
        elif not node.inputs:
            new = graph.source(node.op, **node.attributes)
        else:
            inputs = [copy(other) for other in node.inputs]
            graph.nodes.append(Node(node.op, inputs, dict(node.attributes), node.type))
            new = len(graph.nodes) - 1
        copied[index] = new
        return new

    return copy(value)


def cross_scores(graph: Graph, rng: random.Random, donors: list[Graph]) -> str:
    """The score of another flow added to this one's."""
    donor = _choose(rng, [donor for donor in donors if "score" in donor.roots])
    if "score" not in graph.roots:
        raise NotHere
    theirs = graft(graph, donor, donor.roots["score"])
    share = rng.choice((0.3, 1.0, 3.0))
    graph.roots["score"] = graph.add("add", graph.roots["score"], graph.add("mul", theirs, graph.constant(share)))
    return f"plus {share:g} times the score of {donor.name}"


def cross_sets(graph: Graph, rng: random.Random, donors: list[Graph]) -> str:
    """Part of the pages by this score, part by another flow's."""
    donor = _choose(rng, [donor for donor in donors if "score" in donor.roots])
    if "score" not in graph.roots:
        raise NotHere
    theirs = graft(graph, donor, donor.roots["score"])
    share = rng.choice((0.25, 0.5, 0.75))
    left = graph.source("seq_left")
    mine = graph.add("floor", graph.add("mul", left, graph.constant(share)))
    first = graph.add("top_k", graph.roots.pop("score"), mine)
    graph.roots["select"] = graph.add("either", first, graph.add("top_k", theirs, graph.add("sub", left, mine)))
    return f"{share:g} of the pages by its own score, the others by that of {donor.name}"


EDITS = [
    Edit("budget", 2.0, budget),
    Edit("pinned", 0.5, pinned),
    Edit("reduction", 1.0, reduction),
    Edit("operation", 0.7, operation),
    Edit("insert", 0.7, insert),
    Edit("drop", 0.7, drop),
    Edit("constant", 1.0, constant),
    Edit("weight", 0.7, weight),
    Edit("temperature", 0.7, temperature),
    Edit("sub_pages", 1.5, sub_pages),
    Edit("coarser", 1.5, coarser),
    Edit("slow_channels", 2.0, slow_channels),
    Edit("stream", 1.5, stream),
    Edit("value_norm", 1.0, value_norm),
    Edit("place_in_sequence", 0.5, place_in_sequence),
    Edit("head_vote", 1.0, head_vote),
    Edit("rest", 1.0, rest),
    Edit("nucleus", 0.7, nucleus),
    Edit("cross_scores", 1.0, cross_scores),
    Edit("cross_sets", 0.7, cross_sets),
]
