"""Pages chosen by scores, as oracle chooses them: the mass of each candidate page among the candidates, summed over the heads of a row.
Written in NumPy for any transformed query; tests hold it to the engine's oracle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Budget:
    """pages: attended in all. The open page is one of the recent ones."""

    pages: int = 32
    page_size: int = 16
    sinks: int = 1
    recent: int = 2

    def candidates(self, tokens: int) -> tuple[int, int]:
        """The pages chosen among, first to stop."""
        pages = -(-tokens // self.page_size)
        return self.sinks, max(self.sinks, pages - self.recent)

    def to_choose(self, tokens: int) -> int:
        """How many of the candidates."""
        pages = -(-tokens // self.page_size)
        first, stop = self.candidates(tokens)
        pinned = pages - (stop - first)
        return min(max(self.pages - pinned, 0), stop - first)


def page_scores(logits: np.ndarray, tokens: int, budget: Budget) -> np.ndarray:
    """logits [..., group, tokens or more] → [..., candidates]."""
    first, stop = budget.candidates(tokens)
    size = budget.page_size
    within = logits[..., first * size : stop * size].reshape(*logits.shape[:-1], stop - first, size)
    if stop == first:
        return np.zeros((*logits.shape[:-2], 0), np.float32)
    top = within.max(axis=(-2, -1), keepdims=True)
    mass = np.exp(within - top).sum(axis=-1)
    return (mass / mass.sum(axis=-1, keepdims=True)).sum(axis=-2)


def choose(scores: np.ndarray, count: int) -> np.ndarray:
    """bool [..., candidates]: the `count` largest, ties to the lower index."""
    chosen = np.zeros(scores.shape, bool)
    if count > 0:
        np.put_along_axis(chosen, np.argsort(-scores, axis=-1, kind="stable")[..., :count], True, axis=-1)
    return chosen


def chosen_mass(
    scores: np.ndarray, mass: np.ndarray, tokens: int, budget: Budget
) -> tuple[float | np.ndarray, np.ndarray]:
    """Share of the candidates' mass that the chosen pages hold, and these; scores [..., candidates], mass [..., tokens or more]."""
    first, stop = budget.candidates(tokens)
    chosen = choose(scores, budget.to_choose(tokens))
    if stop == first:
        return np.ones(scores.shape[:-1]), chosen
    size = budget.page_size
    weights = mass[..., first * size : stop * size].reshape(*mass.shape[:-1], stop - first, size).sum(axis=-1)
    return (weights * chosen).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-30), chosen
