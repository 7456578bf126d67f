"""Progress of `vortex discover`: on a terminal a bar for the rounds with the time left, one for the proposals of this round, one for
what is being measured; in a log a line for each proposal that is done. Shows only; a campaign runs the same without it."""

from __future__ import annotations

import re
import sys
import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_ROUND = re.compile(r"round (\d+)$")
_WITHIN = re.compile(r"proposal \d+: ")
STEPS = 1000  # of the bar of rounds, each


class StudyReporter:
    """Callable as a campaign's and a laboratory's progress: (what, done, of). rounds: of the campaign, the ready flows not counted.
    Use as a context manager so that the bars are put away."""

    def __init__(self, rounds: int, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self.rounds, self.began, self.said = rounds, time.monotonic(), {}
        self.bars: Progress | None = None
        if self.console.is_terminal:
            self.bars = Progress(
                TextColumn("{task.description:>24}"), BarColumn(), TextColumn("{task.fields[count]:>9}"), TimeElapsedColumn(), TextColumn("left"),
                TimeRemainingColumn(), console=self.console, speed_estimate_period=7200.0)  # fmt: skip
            self.all = self.bars.add_task("rounds", total=STEPS * (rounds + 1), count=f"0/{rounds}")
            self.round = self.bars.add_task("", total=1, count="", visible=False)
            self.now = self.bars.add_task("", total=1, count="", visible=False)

    def __enter__(self) -> StudyReporter:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars:
            self.bars.stop()

    def __call__(self, what: str, done: int, of: int) -> None:
        if not self.bars:
            self._line(what, done, of)
            return
        found = _ROUND.match(what)
        if found:
            number = int(found[1])
            share = done / of if of else 1.0
            self.bars.update(
                self.all,
                completed=STEPS * (number + share),
                count=f"{max(0, number - (done < of))}/{self.rounds}",
            )
        if found or what in ("proposals", "confirm"):
            self._show(self.round, "the ready flows" if what == "round 0" else what, done, of)
            self.bars.update(self.now, visible=False)
        else:
            self._show(self.now, what, done, of)

    def _show(self, task, what: str, done: int, of: int) -> None:
        if self.bars.tasks[task].description != escape(what):
            self.bars.reset(
                task, total=max(of, 1), completed=done, description=escape(what), count=f"{done}/{of}", visible=of > 0
            )
        self.bars.update(task, total=max(of, 1), completed=done, count=f"{done}/{of}", visible=of > 0)

    def _line(self, what: str, done: int, of: int) -> None:
        """Once for each change; what a single proposal is at stays out of a log."""
        if _WITHIN.match(what) or self.said.get(what) == (done, of) or not of:
            return
        self.said[what] = done, of
        print(f"[{time.monotonic() - self.began:6.1f} s] {what} {done}/{of}", file=sys.stderr, flush=True)
