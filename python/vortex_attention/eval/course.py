"""Texts that full attention writes, and arms that go the same way: side by side through several texts, compared at every n-th step. Full
attention's sequences hold the whole texts to the end, so a step of any arm on full attention's KV can be taken anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .arms import FULL, Arms, Counts
from .compare import FullRow, side_by_side
from .suite import Item

FIGURES = ("kl", "kl_dense", "agreement")
SIDE_BY_SIDE = 3  # more gain nothing on a CPU, and an interruption loses them all


class Course:
    """bases: sequences of the items' prompts but for their last tokens. texts: of each item, what full attention said after it. A step
    feeds the token before. counts: by item and arm, of the steps that were compared."""

    def __init__(self, arms: Arms, items: Sequence[Item], bases: Sequence[int], others: Sequence[str], every: int):
        self.arms, self.items, self.bases, self.others = arms, list(items), list(bases), list(others)
        self.most = max(item.steps for item in items)
        self.compared = [step for step in range(self.most) if step % every == every - 1]
        self.at = set(self.compared)
        self.texts: list[list[int]] = [[] for _ in items]
        self.rows: dict[tuple[int, int], FullRow] = {}  # by item and step
        self.found: list[dict[str, dict[str, dict[int, float]]]] = [
            {name: {figure: {} for figure in FIGURES} for name in (FULL, *others)} for _ in items
        ]
        self.counts = [{name: Counts() for name in (FULL, *others)} for _ in items]
        self.whole: list[int] = []  # full attention's sequences
        self.begun = 0

    def release(self) -> None:
        while self.whole:
            self.arms.bench.release(self.whole.pop())

    def scores(self, index: int, name: str) -> dict[str, list[float]]:
        found = self.found[index][name]
        return {figure: [found[figure][step] for step in sorted(found[figure])] for figure in FIGURES}

    def positions(self, index: int) -> list[int]:
        return [len(self.items[index].prompt) + step for step in sorted(self.found[index][FULL]["kl"])]

    def _input(self, index: int, step: int) -> int:
        return self.items[index].prompt[-1] if step == 0 else self.texts[index][step - 1]

    def _going(self, step: int) -> list[int]:
        return [index for index, item in enumerate(self.items) if step < item.steps]

    def begin(self, known: Sequence[Sequence[int]]) -> int:
        """Full attention's sequences with as much of the texts as is known of all; returns the first step that is to be written."""
        lacking = [len(text) for text, item in zip(known, self.items) if len(text) < item.steps]
        self.begun = min(lacking, default=self.most)
        for index, (item, base) in enumerate(zip(self.items, self.bases)):
            steps = min(self.begun, item.steps)
            self.texts[index] = list(known[index][:steps])
            if steps == 0:
                self.whole.append(self.arms.bench.fork(base, self.arms.flows[FULL]))
            else:
                inputs = [self._input(index, step) for step in range(steps)]
                self.whole.append(self.arms.bench.prefill([*item.prompt[:-1], *inputs]))
        return self.begun

    def write(self, draw: Callable[[int, np.ndarray], int]) -> Iterator[int]:
        """Full attention decodes, each token drawn from what it says: draw(item, logits) → token. Gives the number of each step that is done."""
        for step in range(self.begun, self.most):
            going = self._going(step)
            sequences = [self.whole[index] for index in going]
            logits = self.arms.bench.decode(sequences, [self._input(index, step) for index in going])
            said = side_by_side(draw, going, logits)
            if step in self.at:
                self._put_full(going, step, logits, sequences)
            for index, token in zip(going, said):
                self.texts[index].append(token)
            yield step

    def compare_full(self) -> None:
        """Full attention's rows at the compared positions of what was written before."""
        for step in self.compared:
            going = self._going(step)
            if any((index, step) not in self.rows for index in going):
                self._dense_step([FULL], going, step)

    def groups(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Arms that follow side by side: SIDE_BY_SIDE of them share the reading of the weights, where the workbench does not run ahead."""
        room = max(1, self.arms.bench.max_batch // len(self.items))
        size = min(room, SIDE_BY_SIDE) if self.arms.ahead == 1 else 1
        for begin in range(0, len(names), size):
            yield list(names[begin : begin + size])

    def compare_dense(self, names: Sequence[str]) -> None:
        """A step of each arm on full attention's KV at each of the compared positions."""
        for step in self.compared:
            self._dense_step(names, self._going(step), step)

    def _dense_step(self, names: Sequence[str], going: list[int], step: int) -> None:
        for pairs in self.arms.pairs(names, len(going)):
            which = [going[question] for _, question in pairs]
            with self.arms.fork([name for name, _ in pairs], [self.whole[index] for index in which]) as fresh:
                for sequence, index in zip(fresh.sequences, which):
                    self.arms.bench.truncate(sequence, len(self.items[index].prompt) - 1 + step)
                logits = fresh.decode([self._input(index, step) for index in which], checked=True)
                for name in dict.fromkeys(name for name, _ in pairs):
                    mine = [row for row, (other, _) in enumerate(pairs) if other == name]
                    indices = [which[row] for row in mine]
                    if name == FULL:
                        self._put_full(indices, step, logits[mine], [fresh.sequences[row] for row in mine])
                    else:
                        self._put(name, "kl_dense", indices, step, logits[mine])

    def follow(self, names: Sequence[str]) -> Iterator[int]:
        """Arms are fed the texts through their own decode paths, side by side. Gives the number of each step that is compared."""
        lanes = [(name, index) for name in names for index in range(len(self.items))]
        with self.arms.fork([name for name, _ in lanes], [self.bases[index] for _, index in lanes]) as own:
            done = 0
            for step in self.compared:
                going = [lane for lane, (_, index) in enumerate(lanes) if step < self.items[index].steps]
                if step > done:
                    with self.arms.unrecorded():
                        fed = [self._input(lanes[lane][1], at) for at in range(done, step) for lane in going]
                        self.arms.bench.feed([own.sequences[lane] for lane in going], fed, said=False)
                logits = own.decode([self._input(lanes[lane][1], step) for lane in going], going, checked=True)
                for name in names:
                    rows = [row for row, lane in enumerate(going) if lanes[lane][0] == name]
                    mine = [going[row] for row in rows]
                    self._put(
                        name,
                        "kl",
                        [lanes[lane][1] for lane in mine],
                        step,
                        logits[rows],
                        [own.sequences[lane] for lane in mine],
                    )
                done = step + 1
                yield step

    def _put_full(self, indices: Sequence[int], step: int, logits, sequences: Sequence[int]) -> None:
        for index, row, sequence in zip(indices, side_by_side(FullRow, logits), sequences):
            self.rows[index, step] = row
            found = self.found[index][FULL]
            found["kl"][step] = found["kl_dense"][step] = 0.0
            found["agreement"][step] = True
            self.counts[index][FULL].step(*self.arms.bench.attended(sequence))

    def _put(self, name: str, figure: str, indices: Sequence[int], step: int, logits, sequences=()) -> None:
        """figure: kl, for which the arm's own sequences are counted, or kl_dense."""
        rows = [self.rows[index, step] for index in indices]
        for index, divergence in zip(indices, side_by_side(FullRow.divergence, rows, logits)):
            self.found[index][name][figure][step] = divergence
        if figure != "kl":
            return
        for index, row, logit, sequence in zip(indices, rows, logits, sequences, strict=True):
            self.found[index][name]["agreement"][step] = int(logit.argmax()) == row.likeliest
            self.counts[index][name].step(*self.arms.bench.attended(sequence))
