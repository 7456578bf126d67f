"""The eight needle tasks: sentences that give a key its value, hidden in noise, in essays or among needles of other keys."""

from __future__ import annotations

import bisect
import functools
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import sources
from .task import Task

DEPTHS = [int(depth) for depth in np.round(np.linspace(0, 100, num=40)).astype(int)]
NUMBER_DIGITS = 7
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")


def sentences_of(text: str) -> list[str]:
    """Pieces that end like sentences. The official script asks NLTK's Punkt model, which is not in any package."""
    return [piece for piece in _END.split(text) if piece]


class WordPairs(Sequence):
    """sorted({f"{first}-{second}" ...}) of all pairs, six million of them, without making them."""

    def __init__(self, firsts: Iterable[str], seconds: Iterable[str]):
        self.seconds = sorted(set(seconds))
        self.blocks: list[tuple[str, list[str]]] = []  # (prefix, what follows it), in order
        self.ends: list[int] = []
        for group in _chained(sorted({f"{first}-" for first in firsts})):
            # Where one prefix begins another ("well-", "well-known-") their pairs interleave.
            tails = self.seconds
            if len(group) > 1:
                tails = sorted({prefix[len(group[0]) :] + second for prefix in group for second in self.seconds})
            self.blocks.append((group[0], tails))
            self.ends.append((self.ends[-1] if self.ends else 0) + len(tails))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(index)
        block = bisect.bisect_right(self.ends, index)
        prefix, tails = self.blocks[block]
        return prefix + tails[index - (self.ends[block - 1] if block else 0)]


def _chained(prefixes: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for prefix in prefixes:
        if group and not prefix.startswith(group[0]):
            yield group
            group = []
        group.append(prefix)
    if group:
        yield group


@functools.cache
def word_pairs() -> WordPairs:
    return WordPairs(sources.words("adjectives"), sources.words("nouns"))


@dataclass(frozen=True)
class NeedleShape:
    """haystack: repeat (noise), essay or needle; keys and values: words, numbers or uuids; how many there are, and are asked for."""

    haystack: str
    keys: str = "words"
    values: str = "numbers"
    num_keys: int = 1
    num_values: int = 1
    num_queries: int = 1


class Needles(Task):
    def __init__(self, name, prompt, room, length, seed, count, *, shape: NeedleShape, split=sentences_of):
        super().__init__(name, prompt, room, length, seed, count)
        self.shape, self.split = shape, split
        self.step = 500 if shape.haystack == "essay" else 25 if length >= 4096 else 5
        self.words = word_pairs()
        if shape.haystack == "essay":
            self.limit = len(sources.essay_words())

    def _draw(self, kind: str) -> str:
        if kind == "numbers":
            return str(self.random.randint(10 ** (NUMBER_DIGITS - 1), 10**NUMBER_DIGITS - 1))
        if kind == "words":
            return self.random.choice(self.words)
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def _needle(self, key: str, value: str) -> str:
        return sources.needle_sentence().format(type_needle_v=self.shape.values, key=key, value=value)

    def answered(self, text, outputs):
        return text + " ".join(outputs)

    def make(self, size: int, index: int) -> tuple[str, list[str]]:
        shape = self.shape
        keys, values, needles = [], [], []
        for _ in range(max(shape.num_keys, shape.num_queries)):
            keys.append(self._draw(shape.keys))
            values.append([])
            for _ in range(shape.num_values):
                values[-1].append(self._draw(shape.values))
                needles.append(self._needle(keys[-1], values[-1][-1]))
        context = self._hide(self.shuffled(needles), size)
        asked = self.random.sample(range(len(keys)), shape.num_queries)
        names = [keys[i] for i in asked]
        query = ", ".join(names[:-1]) + ", and " + names[-1] if len(names) > 1 else names[0]
        single = shape.num_queries * shape.num_values == 1
        kind = shape.values[:-1] if single else shape.values
        text = self.prompt(singular=single, type_needle_v=kind, context=context, query=query)
        return text, [value for i in asked for value in values[i]]

    def _hide(self, needles: list[str], size: int) -> str:
        if self.shape.haystack == "essay":
            pieces = self.split(" ".join(sources.essay_words()[:size]).strip())
            depths = self.random.sample(DEPTHS, len(needles))
            cuts = [0, *sorted(int(len(pieces) * (depth / 100)) for depth in depths), len(pieces)]
            parts = []
            for place, (begin, end) in enumerate(zip(cuts, cuts[1:])):
                parts.append(" ".join(pieces[begin:end]))
                parts += needles[place : place + 1]
            return " ".join(parts)
        if self.shape.haystack == "repeat":
            lines = [sources.noise_sentence()] * size
        else:
            lines = [self._needle(self._draw(self.shape.keys), self._draw(self.shape.values)) for _ in range(size)]
        places = sorted(self.random.sample(range(size), len(needles)), reverse=True)
        for place, needle in zip(places, needles):
            lines.insert(place, needle)
        return "\n".join(lines)
