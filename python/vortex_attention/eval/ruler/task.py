"""What the generators share: a task's prompt around its context, the search for the size that fills a length, the samples. The
random numbers are drawn in the order of the official scripts, the search included, so a seed gives the official texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError

ATTEMPTS = 200  # of a sample that comes out too long at the smallest size


@dataclass(frozen=True)
class Sample:
    """A question: the text up to where the answer begins, the strings a right answer holds, the length with the answer's room."""

    text: str
    outputs: tuple[str, ...]
    length: int
    cluster: str = ""  # samples about the same document share one; "": its own


@dataclass(frozen=True)
class Prompt:
    """How a task's text becomes a prompt. chat: (user text, start of the answer) → text, None: they follow each other."""

    template: str
    answer_prefix: str
    chat: Callable[[str, str], str] | None = None

    def __call__(self, *, before: str = "", singular: bool = False, **parts) -> str:
        """before: text that stands before the task's, as it is. singular: the words for one needle instead of several."""
        task, prefix = self.template, self.answer_prefix
        if singular:
            task, prefix = (_singular(text) for text in (task, prefix))
        user, start = before + task.format(**parts), prefix.format(**parts)
        return self.chat(user, start) if self.chat else user + start

    def bare(self, **parts) -> str:
        """Outside the chat's frame."""
        return (self.template + self.answer_prefix).format(**parts)


def _singular(text: str) -> str:
    for many, one in (("Some", "A"), ("are all", "is"), ("are", "is"), ("answers", "answer")):
        text = text.replace(many, one)
    return text


class Task:
    """Base of the generators. Subclasses draw a sample of a given size with `make` and say how sizes grow."""

    step = 10  # by which sizes grow and shrink
    limit: int | None = None  # sizes beyond it are cut to it
    patience = 0  # attempts at one size before it shrinks

    def __init__(self, name: str, prompt: Prompt, room: int, length: int, seed: int, count: Callable[[str], int]):
        """room: tokens for the answer. length: tokens in all. count: tokens of a text."""
        self.name, self.prompt, self.room, self.length, self.seed, self.count = name, prompt, room, length, seed, count
        self.random = random.Random(seed)
        self.numpy = np.random.RandomState(seed)

    def make(self, size: int, index: int) -> tuple[str, list[str]]:
        """(text, outputs) of one sample; ValueError when the size is too small."""
        raise NotImplementedError

    def answered(self, text: str, outputs: list[str]) -> str:
        """The text with its answer, as the search counts it."""
        return f"{text} {outputs}"

    def cluster(self, index: int) -> str:
        return ""

    def fits(self, tokens: int) -> bool:
        """tokens: of the text with the answer's room."""
        return tokens <= self.length

    def shuffled(self, values: list) -> list:
        """In the order that the seed alone gives, whatever was drawn before."""
        random.Random(self.seed).shuffle(values)
        return values

    def largest(self, extra: int = 0) -> int:
        """The size at which a sample fills the length. extra: tokens that are added to every sample."""
        size, total = self.step, 0
        while total + self.room + extra < self.length:
            text, outputs = self.make(size, 0)
            total = self.count(self.answered(text, outputs))
            if total + self.room + extra > self.length:
                return size - self.step
            size += self.step
            if self.limit is not None and size > self.limit:
                return self.limit
        return size

    def samples(self, number: int, extra: int = 0, indices: Sequence[int] | None = None) -> list[Sample]:
        """indices: of the samples, the first `number` when None; a task about documents has a question for each."""
        largest = self.largest(extra)
        return [self._sample(largest, index, extra) for index in (range(number) if indices is None else indices)]

    def _sample(self, size: int, index: int, extra: int) -> Sample:
        shortest = 0
        for attempt in range(ATTEMPTS):
            try:
                text, outputs = self.make(size, index)
                tokens = self.count(text) + self.room + extra
                if self.fits(tokens):
                    return Sample(text, tuple(outputs), tokens, self.cluster(index))
                shortest = min(shortest or tokens, tokens)
            except ValueError:
                pass
            if size > self.step and attempt >= self.patience:
                size -= self.step
        least = f"at least {shortest}" if shortest else "more"
        raise UserError(
            "ruler",
            f"a length that holds a sample of {self.name}, {least} tokens",
            f"{self.length}",
            "raise --length or leave the task out",
        )
