"""The two counting tasks: the ten words that stand most often in a list, the three that stand most often in coded text."""

from __future__ import annotations

import string

import numpy as np
from scipy.special import zeta

from . import sources
from .task import Task

COMMON = 10  # words that are asked for
CODED_LETTERS, ALPHA, ASKED = 6, 2.0, 3


class CommonWords(Task):
    def __init__(self, name, prompt, room, length, seed, count):
        super().__init__(name, prompt, room, length, seed, count)
        self.words = self.shuffled(sorted(set(sources.words("nouns", "adjectives", "verbs"))))
        self.limit = len(self.words)

    def answered(self, text, outputs):
        return f"{text} {_numbered(outputs)}"

    def make(self, size: int, index: int) -> tuple[str, list[str]]:
        short = self.length < 4096
        example, right = self._list(*((20, 3, 1) if short else (40, 10, 3)))
        context, outputs = self._list(size, *((6, 1) if short else (30, 3)))
        before = self.prompt.bare(context=example, query="") + _numbered(right) + "\n"
        return self.prompt(before=before, context=context, query=""), outputs

    def _list(self, number: int, often: int, seldom: int) -> tuple[str, list[str]]:
        drawn = self.random.sample(self.words, number)
        common, others = drawn[:COMMON], drawn[COMMON:]
        return _numbered(self.shuffled(common * often + others * seldom)), common


def _numbered(words: list[str]) -> str:
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, 1))


class CodedWords(Task):
    """The length is that of the prompt; the answer's room comes on top, as in the official script."""

    def _text(self, vocabulary: list[str], number: int) -> str:
        ranks = np.arange(1, len(vocabulary) + 1)
        counts = (number * ranks**-ALPHA / zeta(ALPHA)).astype(int)
        words = self.shuffled([word for word, often in zip(vocabulary, counts) for _ in range(often)])
        return self.prompt(context=" ".join(words), query="")

    def _vocabulary(self) -> list[str]:
        size = self.length // 50

        def word() -> str:
            return "".join(self.random.choices(string.ascii_lowercase, k=CODED_LETTERS))

        drawn = [word() for _ in range(size)]
        while len(set(drawn)) < size:
            drawn.append(word())
        vocabulary = self.shuffled(sorted(set(drawn)))
        vocabulary[0] = "..."  # the most frequent one is noise
        return vocabulary

    @property
    def change(self) -> int:
        return max(1, self.length // 32)

    def largest(self, extra: int = 0) -> int:
        vocabulary = self._vocabulary()
        number = self.length // CODED_LETTERS
        while self.count(self._text(vocabulary, number)) < self.length:
            number += self.change
        return number - self.change

    def make(self, size: int, index: int) -> tuple[str, list[str]]:
        vocabulary = self._vocabulary()
        text = self._text(vocabulary, size)
        while self.count(text) > self.length:
            size -= self.change
            if size <= 0:
                raise ValueError("not even one word fits")
            text = self._text(vocabulary, size)
        return text, vocabulary[1 : 1 + ASKED]

    def fits(self, tokens: int) -> bool:
        return tokens - self.room <= self.length
