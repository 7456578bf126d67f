"""What pages chosen through a lens are worth on traces: recall of the attention mass by layer and KV head, error of a layer's outputs; and
how many pages carry the mass at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..mass import logits_of, page_mass, pages_for, softmax_up_to
from ..traces import Trace
from .lenses import Lens
from .selection import Budget, chosen_mass, page_scores


@dataclass(frozen=True)
class Routed:
    """recall: [layers, kv_heads], share of the candidates' mass in the chosen pages. error: [layers], relative, of the outputs."""

    recall: np.ndarray
    error: np.ndarray


def routed(
    traces: Sequence[Trace],
    lenses: Sequence[Lens],
    budget: Budget,
    geometry,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Routed]:
    """One for each lens, means over positions and traces."""
    layers, kv_heads = geometry.layers, geometry.kv_heads
    recall = np.zeros((len(lenses), layers, kv_heads))
    error = np.zeros((len(lenses), layers))
    steps = sum(len(trace.positions) for trace in traces)
    for number, trace in enumerate(traces):
        for layer in range(layers):
            shares = softmax_up_to(
                logits_of(trace, layer, geometry.scale), trace.positions
            )  # [kv_heads, positions, group, tokens]
            keys, values = trace.keys(layer), trace.values(layer, geometry.value_dim)
            full = np.matmul(shares.reshape(kv_heads, -1, trace.tokens), values).reshape(*shares.shape[:3], -1)
            mass = shares.mean(axis=2)
            asked = trace.q[:, layer].reshape(len(trace.positions), kv_heads, -1, geometry.head_dim)
            asked = asked.transpose(1, 0, 2, 3).reshape(kv_heads, -1, geometry.head_dim) * np.float32(geometry.scale)
            for which, lens in enumerate(lenses):
                seen = np.matmul(np.matmul(asked, lens.matrices[layer]), keys.transpose(0, 2, 1)).reshape(shares.shape)
                attended = np.ones((kv_heads, len(trace.positions), trace.tokens), np.float32)
                for index, at in enumerate(trace.positions):
                    scores = page_scores(seen[:, index], at + 1, budget)
                    held, chosen = chosen_mass(scores, mass[:, index], at + 1, budget)
                    recall[which, layer] += held
                    first, stop = budget.candidates(at + 1)
                    attended[:, index, first * budget.page_size : stop * budget.page_size] = np.repeat(
                        chosen, budget.page_size, axis=-1
                    )
                kept = shares * attended[:, :, None]
                kept /= kept.sum(axis=-1, keepdims=True)
                sparse = np.matmul(kept.reshape(kv_heads, -1, trace.tokens), values).reshape(full.shape)
                off = np.sqrt(((sparse - full) ** 2).sum(axis=(0, 2, 3)) / (full**2).sum(axis=(0, 2, 3)))
                error[which, layer] += off.sum()
            progress(number * layers + layer + 1, len(traces) * layers)
    return [Routed(recall[which] / steps, error[which] / steps) for which in range(len(lenses))]


def pages_that_carry(traces: Sequence[Trace], geometry, share: float, page_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The fewest pages that hold `share` of the mass of a row: [positions of all traces, layers, kv_heads], and the pages there are, [positions]."""
    needed, there = [], []
    for trace in traces:
        by_layer = []
        for layer in range(geometry.layers):
            mass = softmax_up_to(logits_of(trace, layer, geometry.scale), trace.positions).mean(axis=2)
            by_layer.append(pages_for(page_mass(mass, page_size), share).T)  # [positions, kv_heads]
        needed.append(np.stack(by_layer, axis=1))
        there.append(-(-(trace.positions + 1) // page_size))
    return np.concatenate(needed), np.concatenate(there)
