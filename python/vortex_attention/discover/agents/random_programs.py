"""Random programs: flows drawn from a small grammar, whatever was measured before. An arm to compare with, and where a search from
nothing begins.

A flow remembers one to three things of a page, makes a logit a head of each, joins them, and lets the heads vote.
"""

from __future__ import annotations

import random

from ... import _core
from ...errors import UserError
from ..archive import known
from ..edits.base import BINARY, UNARY, summarize
from ..frontier import Point
from ..graph import Graph
from ..mutate import Geometry, fits
from ..study import Draft, Study

BUDGETS = (16, 24, 32, 48, 64)


class RandomPrograms:
    author = "random"

    def __init__(self, seed: int):
        self.seed = seed

    def drafts(self, study: Study, points: list[Point], laboratory, round: int, variants: int) -> list[Draft]:
        hashes, made = set(known(study, points).hashes), []
        for slot in range(variants):
            program = draw(
                random.Random(f"{self.seed} {round} {slot}"), laboratory.geometry, known=hashes, name=f"r{round}_{slot}"
            )
            if program is not None:
                hashes.add(program.hash)
                made.append(Draft(program, program.text(), "a random program"))
        return made


def draw(
    rng: random.Random, geometry: Geometry, *, known: set[str] = frozenset(), name: str = "drawn", tries: int = 200
) -> _core.Program | None:
    """A program that the language accepts, that fits, and whose hash is not in `known`; None when none was found."""
    for _ in range(tries):
        try:
            program = _graph(rng, name).build()
            fits(program, geometry)
        except UserError:
            continue
        if program.hash not in known:
            return program
    return None


def _graph(rng: random.Random, name: str) -> Graph:
    settings = {
        "page_size": "16",
        "budget": str(rng.choice(BUDGETS)),
        "sinks": str(rng.choice((1, 1, 2))),
        "recent": str(rng.choice((1, 2, 4))),
    }
    graph = Graph(name, "", settings, [], {}, {})
    logit = _logit(graph, rng)
    for _ in range(rng.choices((0, 1, 2), (0.5, 0.35, 0.15))[0]):
        other = graph.add("mul", _logit(graph, rng), graph.constant(rng.choice((0.25, 0.5, 1.0, 2.0))))
        logit = graph.add(rng.choice(BINARY), logit, other)
    for _ in range(rng.choices((0, 1), (0.8, 0.2))[0]):
        logit = graph.add(rng.choice(UNARY), logit)
    if rng.random() < 0.6:
        logit = graph.add("softmax", logit, axis="page")
    graph.roots["score"] = graph.add(rng.choice(("sum", "max", "mean", "norm")), logit, axis="head")
    return graph


def _logit(graph: Graph, rng: random.Random) -> int:
    """A number a head and page: the query against something remembered of the keys, or the size of the values."""
    if rng.random() < 0.15:
        size = graph.add("norm", graph.source("page_v"), axis="dim")
        seen = summarize(graph, "values", graph.add(rng.choice(("mean", "max")), size, axis="token"))
        return graph.add(
            "add", graph.add("mul", graph.add("norm", graph.source("q"), axis="dim"), graph.constant(0.0)), seen
        )
    key, q, parts = graph.source("page_k"), graph.source("q"), rng.random() < 0.3
    if rng.random() < 0.3:
        share = rng.choice((0.25, 0.5, 0.75))
        key, q = (graph.add("low_frequency", value, axis="dim", share=share) for value in (key, q))
    if rng.random() < 0.25:
        op = rng.choice(("abs", "relu"))
        key, q = graph.add(op, key), graph.add(op, q)
    if parts:
        key = graph.add("split", key, axis="token", name="part", size=rng.choice((2, 4, 8)))
    over = "part" if parts else "token"
    if rng.random() < 0.25:
        low, high = (summarize(graph, op, graph.add(op, key, axis=over)) for op in ("min", "max"))
        logit = graph.add("sum", graph.add("maximum", graph.add("mul", q, low), graph.add("mul", q, high)), axis="dim")
    else:
        op = rng.choice(("mean", "mean", "max", "min", "norm"))
        logit = graph.add("dot", q, summarize(graph, op, graph.add(op, key, axis=over)), over="dim")
    return graph.add(rng.choice(("max", "mean")), logit, axis="token") if parts else logit
