"""What pages chosen through a lens do to the model's answers: at positions of a text the model runs once with every lens side by side, each
choosing its pages in every layer, on full attention's keys and values of what lies before. So KL and log-probability are those of one
sparse step; the KV of earlier sparse steps is the concern of the suite drift. Runs on the CPU, attention in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..arms import divergence
from ..score import log_softmax
from ..traces import narrow, unpack, widen
from .lenses import Lens
from .selection import Budget, choose, page_scores


@dataclass(frozen=True)
class Question:
    """tokens: a text; positions: of the tokens after which the next one is asked for, tokens[position + 1]. kind: the suite it is from."""

    kind: str
    name: str
    tokens: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass
class Answered:
    """Of one lens (or full attention) on one question. exact: every asked token was the likeliest."""

    log_probability: float
    kl: float
    agreement: float
    exact: bool


class Side:
    """The keys and values of a question's text, and attention of one step at a position for all lenses at once."""

    def __init__(self, k: np.ndarray, v: np.ndarray | None, geometry, lenses: Sequence[Lens], budget: Budget):
        self.geometry, self.lenses, self.budget = geometry, lenses, budget
        self.k = [widen(k[layer]) for layer in range(geometry.layers)]
        self.v = [self.k[layer] if v is None else widen(v[layer]) for layer in range(geometry.layers)]
        self.at = 0

    def attend(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray | None) -> np.ndarray:
        """Row 0 is full attention's, row i + 1 lens i's. q [rows, heads, dim], k and v [rows, kv_heads, dim]: the token's own."""
        geometry, budget, tokens = self.geometry, self.budget, self.at + 1
        kv_heads, dim = geometry.kv_heads, geometry.head_dim
        before_k, before_v = self.k[layer][:, : self.at], self.v[layer][:, : self.at, : geometry.value_dim]
        own_k = narrow(k).reshape(k.shape)
        own_v = own_k[..., : geometry.value_dim] if v is None else narrow(v).reshape(v.shape)
        asked = q.reshape(len(q), kv_heads, -1, dim) * np.float32(geometry.scale)  # [rows, kv_heads, group, dim]
        group = asked.shape[2]
        first, stop = budget.candidates(tokens)
        count, size = budget.to_choose(tokens), budget.page_size
        out = np.empty((len(q), kv_heads, group, geometry.value_dim), np.float32)
        if stop > first:
            seen = np.stack(
                [np.matmul(asked[row + 1], lens.matrices[layer]) for row, lens in enumerate(self.lenses)], axis=1
            )
            flat = seen.reshape(kv_heads, -1, dim)  # [kv_heads, lenses · group, dim]
            logits = np.matmul(flat, before_k[:, : stop * size].transpose(0, 2, 1))
            scores = page_scores(logits.reshape(kv_heads, len(self.lenses), group, -1), tokens, budget)
            chosen = choose(scores, count)  # [kv_heads, lenses, candidates]
        for row in range(len(q)):
            for head in range(kv_heads):
                keys, values = before_k[head], before_v[head]
                if row > 0 and stop > first:
                    pages = np.flatnonzero(chosen[head, row - 1]) + first
                    picked = np.concatenate(
                        [
                            np.arange(first * size),
                            (pages[:, None] * size + np.arange(size)).ravel(),
                            np.arange(stop * size, self.at),
                        ]
                    )
                    keys, values = keys[picked], values[picked]
                of_pages = asked[row, head] @ keys.T
                of_own = asked[row, head] @ own_k[row, head]
                top = np.maximum(of_pages.max(axis=-1), of_own)
                weights, own = np.exp(of_pages - top[:, None]), np.exp(of_own - top)
                total = weights.sum(axis=-1) + own
                out[row, head] = (weights @ values + own[:, None] * own_v[row, head]) / total[:, None]
        return out.reshape(len(q), kv_heads * group, -1)


def answer(
    bench,
    prefill: Callable[[Sequence[int]], int],
    model,
    question: Question,
    lenses: Sequence[Lens],
    budget: Budget,
    threads: int,
) -> list[Answered]:
    """Full attention's and each lens's, in order. prefill: tokens → a sequence of the workbench that holds their KV."""
    geometry = model.config.attention
    sequence = prefill(question.tokens)
    try:
        k, v = unpack(bench.save(sequence), len(question.tokens), geometry, bench.page_size)
    finally:
        bench.release(sequence)
    side = Side(k, v, geometry, lenses, budget)
    found: list[list[tuple[float, float, bool, bool]]] = [[] for _ in range(len(lenses) + 1)]
    rows = list(range(len(lenses) + 1))
    for at in question.positions:
        side.at = at
        logits = model.step([question.tokens[at]] * len(rows), [at] * len(rows), side.attend, rows, threads=threads)
        said = [log_softmax(row) for row in logits]
        target = question.tokens[at + 1]
        for row, own in zip(rows, said):
            kl = divergence(said[0], own) if row else 0.0
            found[row].append(
                (float(own[target]), kl, bool(own.argmax() == said[0].argmax()), bool(own.argmax() == target))
            )
    return [
        Answered(
            *(float(np.mean([one[part] for one in rows_of])) for part in range(3)), exact=all(one[3] for one in rows_of)
        )
        for rows_of in found
    ]
