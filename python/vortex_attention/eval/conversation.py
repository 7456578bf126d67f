"""A long conversation that full attention writes: it answers one request after another, some of which go back to what was said long before.
An answer ends where the model ends it, when it turns in circles, or at MOST tokens, and the next request follows; so a text of any length stays
one that something can be lost in. Requests and draws are fixed by seed and number. Knows no workbench."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..measure.finite import require_finite

VERSION = 3
TEMPERATURE, LEAST = 0.8, 1e-3
MOST = 768  # tokens of an answer
CIRCLE, WITHIN = 24, 400  # so many tokens that stand among so many before them again are a circle
FORMS = (
    "Tell a story about {}.",
    "Explain {} to a curious child, step by step.",
    "Write an article about {}, with many details.",
    "Write a dialogue between two friends who disagree about {}.",
    "Describe {} in letters that a traveller sends home.",
    "What can go wrong with {}, and what would you do about each problem?",
    "Invent a small town where everybody talks about {}, and describe one day there.",
)
BACK = (
    "Go back to what you said about {}. Repeat the main points, then continue it.",
    "Compare {} with {}, as you described them above.",
)
TOPICS = (
    "a lighthouse", "the measuring of time", "a power grid of a town", "patience", "a journey across a continent", "rivers", "the building of ships",
    "a lost library", "bread", "bees", "mountain railways", "the tides", "a market in winter", "glass", "maps", "an orchard", "storms at sea", "paper",
    "the colour blue", "bridges", "a school on an island", "salt", "the first telescope", "wells in the desert", "old trees", "ice", "a bakery at night",
    "coins", "birds that travel", "a clockmaker's shop", "volcanoes", "canals", "wool", "a theatre", "the night sky", "a harbour", "tea", "snow",
    "a garden behind a wall", "the letters of the alphabet",
)  # fmt: skip


class Requests:
    """What is asked, one after the other."""

    def __init__(self, seed: int, number: int):
        self.random = np.random.default_rng([VERSION, seed, number])
        self.asked: list[str] = []  # topics
        self.left: list[str] = []

    def next(self) -> str:
        if len(self.asked) >= 2 and self.random.random() < 1 / 3:
            form = BACK[self.random.integers(len(BACK))]
            chosen = self.random.choice(len(set(self.asked)), size=form.count("{}"), replace=False)
            known = list(dict.fromkeys(self.asked))
            return form.format(*(known[place] for place in chosen))
        if not self.left:
            self.left = [TOPICS[place] for place in self.random.permutation(len(TOPICS))]
        self.asked.append(self.left.pop())
        return FORMS[self.random.integers(len(FORMS))].format(self.asked[-1])


class Writer:
    """What follows the first request's prompt, token by token. turn: a request → the tokens from the end of an answer to the beginning of the next.
    stop: tokens that end an answer."""

    def __init__(self, seed: int, number: int, turn: Callable[[str], list[int]], stop: frozenset[int]):
        self.requests, self.turn, self.stop = Requests(seed, number), turn, stop
        self.first = self.requests.next()
        self.draws = np.random.default_rng([seed, number])
        self.answer: list[int] = []  # the one under way
        self.pending: list[int] = []  # of a request that is being asked
        self.frame = self._frame()  # of the next request

    def _frame(self) -> list[int]:
        return self.turn(self.requests.next())

    def next(self, logits: np.ndarray) -> int:
        """The token after those so far. logits: full attention's."""
        at = self.draws.random()
        if self.pending:
            return self.pending.pop(0)
        token = draw(logits, at)
        if token in self.stop or len(self.answer) >= MOST or turns_in_circles(self.answer):
            self._ask()
            return self.pending.pop(0)
        self.answer.append(token)
        return token

    def _ask(self) -> None:
        self.pending, self.frame, self.answer = self.frame, self._frame(), []

    def usable(self, tokens: Sequence[int]) -> int:
        """How many of the tokens it wrote can be taken up again: a request that is cut off at the end is asked anew."""
        return self._take(tokens)

    def take_up(self, tokens: Sequence[int], count: int) -> None:
        """Stands as after the first `count` of the usable tokens."""
        at = self._take(tokens, count)
        if at != count:
            raise ValueError(f"take_up: at most {at} usable tokens are there; {count} came")
        self.draws.random(count)

    def _take(self, tokens: Sequence[int], most: int | None = None) -> int:
        """Walks through tokens it wrote up to `most`; gives where it stands."""
        tokens, at = list(tokens), 0
        most = len(tokens) if most is None else most
        while at < most:
            size = len(self.frame)
            there = tokens[at : at + size]
            if there == self.frame[: len(there)]:
                if len(there) < size:  # cut off at the end of what is known
                    return at
                self._ask()
                taken = min(size, most - at)
                self.pending, at = self.pending[taken:], at + taken
            else:
                self.answer.append(tokens[at])
                at += 1
        return at


def turns_in_circles(tokens: Sequence[int]) -> bool:
    """The last CIRCLE tokens stand once more among the WITHIN before the last."""
    if len(tokens) <= CIRCLE:
        return False
    tail = list(tokens[-CIRCLE:])
    before = tokens[-WITHIN - 1 : -1]
    return any(
        list(before[at : at + CIRCLE]) == tail for at in range(len(before) - CIRCLE + 1) if before[at] == tail[0]
    )


def draw(logits: np.ndarray, at: float) -> int:
    """Among the tokens that have at least LEAST of the likeliest one's share, the first at which the sum of shares exceeds `at` of their whole."""
    top = logits.max()
    if not np.isfinite(top):  # NaN, if there is any
        require_finite(logits, "eval", full=True)
    near = np.flatnonzero(logits >= top + TEMPERATURE * np.log(LEAST))
    wide = logits[near].astype(np.float64) / TEMPERATURE
    sums = np.cumsum(np.exp(wide - wide.max()))
    return int(near[min(np.searchsorted(sums, at * sums[-1], side="right"), len(near) - 1)])
