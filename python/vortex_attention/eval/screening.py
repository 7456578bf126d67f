"""Screens of one flow after another, as a function: texts are traced once, then a flow's figures take seconds and no model.

screen = Screen("smollm2", natural=natural_text)
screen(program)  # {"recall": 0.81, "top": 0.74, "worst": 0.32, "error": 0.2, "seconds": 0.9}
"""

from __future__ import annotations

import time

import numpy as np

from .runner import Progress
from .suites.screen import ScreenSuite
from .trace_bed import TraceBed


class Screen:
    """natural: the text that traces are cut from, as in TraceBed. Flows need a page_size that is a multiple of 16. Keeps the texts'
    keys and values, their attention mass and full attention's outputs."""

    def __init__(
        self,
        model: str,
        *,
        natural,
        items: int = 2,
        length: int = 2048,
        positions: int = 12,
        seed: int = 1,
        threads: int = 0,
        progress: Progress = lambda *_: None,
    ):
        self.bed = TraceBed(model, {}, natural=natural, threads=threads, progress=progress)
        self.suite = ScreenSuite(self.bed.context, items=items, length=length, seed=seed, positions=positions)
        self.items = self.suite.items()
        self.arms = self.bed.prepare(self.items, together=len(self.items))
        restore = self.bed.prefill(self.bed.kept)
        self.bases = [restore(item.prompt[:-1]) for item in self.items]
        self.seen: dict = {}

    @property
    def settings(self) -> dict:
        return self.suite.settings

    def __call__(self, program) -> dict:
        """Means over the texts: mass recall, heaviest pages read, recall of the worst head, output error; and the seconds it took."""
        began, name = time.perf_counter(), "flow"
        number = self.bed.bench.load_flow(program)
        self.arms.add(name, number, program.config)
        try:
            found = []
            for item, base in zip(self.items, self.bases):
                self.arms.base = base
                found.append(self.suite.measure(self.arms, item, [name], self.seen)[name].scores)
        finally:
            self.arms.base = -1
            self.bed.bench.unload_flow(number)
        figures = {
            metric.name: float(np.mean([scores[metric.name] for scores in found])) for metric in self.suite.metrics
        }
        return figures | {"seconds": time.perf_counter() - began}
