"""Arms of one item: forks of its prefilled sequence, each decoding through its flow, and what the engine counted of them. Works on
any workbench: the CPU's or a device's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from ..engine.pages import pinned
from ..measure.finite import require_finite
from .score import log_softmax

FULL = "full"


def plain(name: str) -> str:
    """The flow's name without budget and settings: "random_pages" of "random_pages@32". A control is one with any budget."""
    return name.partition("@")[0].partition("+")[0]


class Counts:
    """Flow pages and tokens attended, over rows (layers and KV heads) and steps."""

    def __init__(self) -> None:
        self.pages = self.tokens = self.steps = 0

    def step(self, pages: int, tokens: int) -> None:
        self.pages, self.tokens, self.steps = self.pages + pages, self.tokens + tokens, self.steps + 1

    def add(self, other: "Counts") -> None:
        self.pages, self.tokens, self.steps = (
            self.pages + other.pages,
            self.tokens + other.tokens,
            self.steps + other.steps,
        )

    def observed(self, rows: int) -> dict:
        """rows: layers · KV heads. Means over rows and steps."""
        steps = max(1, self.steps)
        return {
            "attended_tokens": self.tokens / rows / steps,
            "attended_pages": self.pages / rows / steps,
            "steps": self.steps,
        }


class Branches:
    """One fork for each name, of the base or each of its own; a context manager that releases them. Decodes them together.
    counted: of each branch."""

    def __init__(self, arms: "Arms", names: Sequence[str], base: int | Sequence[int] | None = None):
        self.arms, self.names = arms, list(names)
        self.sequences: list[int] = []
        base = arms.base if base is None else base
        self.bases = [base] * len(self.names) if isinstance(base, int) else list(base)
        self.counted = [Counts() for _ in self.names]
        self.extra: list[int] = []

    def __enter__(self) -> "Branches":
        try:
            for name, base in zip(self.names, self.bases, strict=True):
                self.sequences.append(self.arms.bench.fork(base, self.arms.flows[name]))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for held in (self.sequences, self.extra):
            while held:
                self.arms.bench.release(held.pop())

    @property
    def counts(self) -> dict[str, Counts]:
        """By name, branches of one name added up."""
        found = {name: Counts() for name in self.names}
        for name, counts in zip(self.names, self.counted):
            found[name].add(counts)
        return found

    def part(self, which: int) -> int:
        """A fork of a branch as it stands, released with it."""
        self.extra.append(self.arms.bench.fork(self.sequences[which], self.arms.flows[self.names[which]]))
        return self.extra[-1]

    def decode(self, tokens: Sequence[int], which: Sequence[int] | None = None, *, checked: bool = False) -> np.ndarray:
        """Feeds tokens[i] to the i-th branch of `which` (indices; all when None); logits [n, vocabulary], float32. checked: the
        caller sees to it that they are numbers."""
        which = range(len(self.names)) if which is None else which
        sequences = [self.sequences[i] for i in which]
        logits = self.arms.bench.decode(sequences, [int(token) for token in tokens])
        for row, i in enumerate(which):
            if not checked:
                require_finite(logits[row], "eval", full=self.names[i] == FULL)
            self.counted[i].step(*self.arms.bench.attended(self.sequences[i]))
        return logits


class Arms:
    """The arms there are, by name, FULL among them. rows: layers · KV heads. configs: of the flows. ahead: greedy steps taken at once;
    more than one where the workbench runs ahead of the host, which it does for sequences of one arm. `base` is the sequence of the
    item that is being measured."""

    def __init__(
        self, bench, flows: dict[str, int], rows: int, layers: int = 1, configs: dict | None = None, ahead: int = 1
    ):
        self.ahead = ahead
        self.bench, self.flows, self.rows = bench, {FULL: -1, **flows}, rows
        self.layers = layers
        self.page_sizes = {name: config.page_size for name, config in (configs or {}).items()}
        self.pins = {name: pinned(config) for name, config in (configs or {}).items()}
        self.base = -1
        bench.record_pages(True)

    def add(self, name: str, flow: int, config) -> None:
        """Another arm, in the place of one of that name."""
        self.flows[name] = flow
        self.page_sizes[name], self.pins[name] = config.page_size, pinned(config)

    def pages_read(self, name: str, sequence: int) -> np.ndarray:
        """Which of its pages the sequence attended in its last decode, [layers, KV heads, pages]."""
        pages = -(-self.bench.length(sequence) // self.page_sizes[name])
        read = np.zeros((self.layers, self.rows // self.layers, pages), dtype=bool)
        for layer in range(read.shape[0]):
            for head in range(read.shape[1]):
                read[layer, head, self.bench.page_list(sequence, layer, head)] = True
        return read

    def candidates(self, name: str, tokens: int) -> np.ndarray:
        """Which pages of a sequence of so many tokens the flow chooses among, [pages]: neither sinks nor recent."""
        sinks, recent = self.pins[name]
        size = self.page_sizes[name]
        page = np.arange(-(-tokens // size))
        return (page >= sinks) & (page <= page[-1] - recent) & ((page + 1) * size <= tokens)

    def fork(self, names: Sequence[str], base: int | Sequence[int] | None = None) -> Branches:
        return Branches(self, names, base)

    @contextlib.contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Steps whose pages nobody asks for: only these run ahead."""
        self.bench.record_pages(False)
        try:
            yield
        finally:
            self.bench.record_pages(True)

    def groups(self, names: Sequence[str]) -> Iterator[list[str]]:
        """As many at once as the workbench decodes."""
        size = self.bench.max_batch
        for begin in range(0, len(names), size):
            yield list(names[begin : begin + size])

    def pairs(self, names: Sequence[str], count: int) -> Iterator[list[tuple[str, int]]]:
        """(arm, question) for `count` questions, as many at once as the workbench decodes; arm by arm where it runs ahead."""
        runs = [[name] for name in names] if self.ahead > 1 else [list(names)]
        size = self.bench.max_batch
        for run in runs:
            pairs = [(name, question) for name in run for question in range(count)]
            for begin in range(0, len(pairs), size):
                yield pairs[begin : begin + size]


def divergence(full: np.ndarray, arm: np.ndarray) -> float:
    """KL(full ‖ arm) of two rows of log-probabilities, in nats."""
    return float((np.exp(full) * (full - arm)).sum())


def forced(arms: Arms, names: Sequence[str], fed: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, Counts]]:
    """Log-probabilities [len(fed), vocabulary] of each arm, all fed the same tokens."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    counts: dict[str, Counts] = {}
    for group in arms.groups(names):
        with arms.fork(group) as branches:
            for token in fed:
                logits = branches.decode([token] * len(group))
                for name, row in zip(group, logits):
                    rows[name].append(log_softmax(row).astype(np.float32))
            counts |= branches.counts
    return {name: np.stack(found) for name, found in rows.items()}, counts
