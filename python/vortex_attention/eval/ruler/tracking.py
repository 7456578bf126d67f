"""Variable tracking: a chain of assignments in noise, after a worked example; all variables of one value are asked for."""

from __future__ import annotations

import string
from collections.abc import Sequence

from . import sources
from .task import Prompt, Sample, Task

HOPS = 4
EXAMPLE_LENGTH, EXAMPLE_STEP, EXAMPLE_LETTERS = 500, 5, 3


class Tracking(Task):
    letters = 5
    patience = 50  # a sample that is too long is drawn again at the same size: names differ in tokens
    example = ""

    def make(self, size: int, index: int) -> tuple[str, list[str]]:
        names, lines = self._chain()
        pieces = [sources.noise_sentence() + "\n"] * size
        if len(pieces) <= len(lines):
            pieces = [piece + "." if piece.strip() else piece for sentence in pieces for piece in sentence.split(".")]
            if len(pieces) <= len(lines):
                lines = lines[: max(0, len(pieces) - 1)]
        places = sorted(self.random.sample(range(len(pieces)), len(lines)))
        for shift, (place, line) in enumerate(zip(places, lines)):
            pieces.insert(place + shift, line)
        if not lines:
            raise ValueError("no room for the chain")
        context = " ".join(pieces).replace(". \n", ".\n")
        return self.prompt(context=context, query=lines[0].split("=")[-1].strip(), num_v=HOPS + 1), names

    def _name(self, letters: int) -> str:
        return "".join(self.random.choices(string.ascii_uppercase, k=letters))

    def _chain(self) -> tuple[list[str], list[str]]:
        names = [self._name(self.letters) for _ in range(HOPS + 1)]
        while len(set(names)) < HOPS + 1:
            names = [*dict.fromkeys(names), self._name(self.letters)]
        lines = [f"VAR {names[0]} = {self.numpy.randint(10000, 99999)}"]
        return names, lines + [f"VAR {later} = VAR {earlier} " for earlier, later in zip(names, names[1:])]

    def samples(self, number: int, extra: int = 0, indices: Sequence[int] | None = None) -> list[Sample]:
        self.example = self._worked_example()
        return super().samples(number, self.count(self.example), indices)

    def _sample(self, size: int, index: int, extra: int) -> Sample:
        sample = super()._sample(size, index, extra)
        if not self.example:
            return sample
        start = sample.text.index(self.prompt.template[:20])
        return Sample(
            f"{sample.text[:start]} {self._renamed_example()}\n\n{sample.text[start:]}", sample.outputs, sample.length
        )

    def _worked_example(self) -> str:
        """A short sample with its answer, outside the chat's frame."""
        own = self.prompt, self.length, self.step, self.letters, self.example
        self.prompt, self.length = Prompt(self.prompt.template, self.prompt.answer_prefix), EXAMPLE_LENGTH
        self.step, self.letters, self.example = EXAMPLE_STEP, EXAMPLE_LETTERS, ""
        try:
            (sample,) = super().samples(1)
        finally:
            self.prompt, self.length, self.step, self.letters, self.example = own
        return f"{sample.text} {' '.join(sample.outputs)}\n\n"

    def _renamed_example(self) -> str:
        mark, text = self.prompt.answer_prefix[-10:], self.example
        for name in text[text.index(mark) + len(mark) :].split():
            text = text.replace(name, self._name(len(name)))
        return text
