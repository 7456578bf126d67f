"""What the screens of a study say about flows that were not screened: the gain of a candidate from flows like it.

A kernel regression over counts of ops and settings: cheap, deterministic, and silent (None) where nothing like the candidate was seen.
It orders candidates before anything is measured; no gate and no figure uses it.
"""

from __future__ import annotations

import math
from collections import Counter

from .. import _core
from .archive import Known
from .graph import Graph

MIN_SEEN = 8  # screened flows from which on it says something
BANDWIDTH = 1.5  # of the distance between flows


def features(program: _core.Program) -> dict[str, float]:
    """Live ops by name (their number, damped) and settings in powers of two."""
    graph = Graph.of(program)
    found = {op: math.log2(1 + count) for op, count in Counter(graph.nodes[index].op for index in graph.live()).items()}
    for name in ("page_size", "budget", "sinks", "recent", "refresh_every"):
        found[f"={name}"] = math.log2(1 + float(graph.config.get(name, "1") or 1))
    found["=reuse"] = 1.0 if "reuse" in graph.config else 0.0
    for node in (graph.nodes[index] for index in graph.live()):
        if node.op == "low_frequency":
            found["=channels"] = 2.0 * float(node.attributes["share"])
    return found


class Surrogate:
    def __init__(self, known: Known):
        self.seen = [
            (features(known.programs[id]), gain) for id, gain in sorted(known.screened.items()) if id in known.programs
        ]

    def gain(self, program: _core.Program) -> float | None:
        """Expected gain on the screen; None when too little is known."""
        if len(self.seen) < MIN_SEEN:
            return None
        mine, total, weights = features(program), 0.0, 0.0
        for theirs, gain in self.seen:
            distance = sum((mine.get(name, 0.0) - theirs.get(name, 0.0)) ** 2 for name in {*mine, *theirs})
            weight = math.exp(-distance / (2 * BANDWIDTH**2))
            total, weights = total + weight * gain, weights + weight
        return total / weights if weights > 1e-6 else None
