"""Lenses: what of a query reaches the score of pages. A lens is a matrix for each layer and KV head, [head_dim, head_dim]; pages are
scored by (q · lens) · k, attention itself sees q. Masks of channels are diagonal, projections are not.

Channels are grouped by the frequency at which RoPE turns them: band 0 turns fastest. Channel i and channel i + dim / 2 are a pair
(HF order). Refuses models whose keys are a latent of all heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ..mass import token_mass
from ..traces import Trace
from .selection import Budget, chosen_mass, page_scores


@dataclass(frozen=True)
class Lens:
    """matrices: [layers, kv_heads, head_dim, head_dim], float32. share: of the channels (or directions) that it keeps."""

    name: str
    kind: str  # all, keep band, mask band, slowest, fastest, variance, pca, greedy, random
    share: float
    matrices: np.ndarray
    band: int = -1


def bands_of(dim: int, groups: int) -> list[np.ndarray]:
    """The channels of each band, from the fastest."""
    if dim % (2 * groups):
        raise UserError(
            "ablate", f"groups that divide the {dim // 2} pairs of channels", f"{groups}", "change --groups"
        )
    pairs = np.arange(dim // 2).reshape(groups, -1)
    return [np.concatenate([band, band + dim // 2]) for band in pairs]


def masks(keep: np.ndarray) -> np.ndarray:
    """Diagonal lenses of the channels kept, bool [layers, kv_heads, dim]."""
    return keep[..., None] * np.eye(keep.shape[-1], dtype=np.float32)


def by_band(shape: tuple[int, int, int], groups: int) -> list[Lens]:
    """All channels; each band kept alone and masked alone; the slowest and the fastest bands together. shape: layers, KV heads, channels."""
    bands = bands_of(shape[2], groups)
    all_channels = np.ones(shape, bool)

    def kept(numbers: Sequence[int]) -> np.ndarray:
        keep = np.zeros(shape, bool)
        keep[..., np.concatenate([bands[number] for number in numbers])] = True
        return masks(keep)

    lenses = [Lens("all channels", "all", 1.0, masks(all_channels))]
    for band in range(groups):
        others = [other for other in range(groups) if other != band]
        lenses.append(Lens(f"only band {band}", "keep band", 1 / groups, kept([band]), band))
        lenses.append(Lens(f"without band {band}", "mask band", 1 - 1 / groups, kept(others), band))
    for count in range(2, groups):
        lenses.append(
            Lens(f"slowest {count} of {groups}", "slowest", count / groups, kept(range(groups - count, groups)))
        )
        lenses.append(Lens(f"fastest {count} of {groups}", "fastest", count / groups, kept(range(count))))
    return lenses


def _top_channels(worth: np.ndarray, count: int) -> np.ndarray:
    """bool, the `count` largest over the last axis."""
    order = np.argsort(-worth, axis=-1, kind="stable")
    keep = np.zeros(worth.shape, bool)
    np.put_along_axis(keep, order[..., :count], True, axis=-1)
    return keep


def by_variance(traces: Sequence[Trace], counts: Sequence[int]) -> list[Lens]:
    """The channels of each head whose part of the logit varies most over the tokens: mean q² times the variance of k."""
    layers, kv_heads, _, dim = traces[0].k.shape
    worth = np.zeros((layers, kv_heads, dim))
    for trace in traces:
        for layer in range(layers):
            asked = trace.q[:, layer].reshape(len(trace.positions), kv_heads, -1, dim)
            worth[layer] += (asked**2).mean(axis=(0, 2)) * trace.keys(layer).var(axis=1)
    return [
        Lens(f"variance {count} of {dim}", "variance", count / dim, masks(_top_channels(worth, count)))
        for count in counts
    ]


def by_pca(traces: Sequence[Trace], counts: Sequence[int]) -> list[Lens]:
    """The directions of each head in which its keys, less their mean, vary most."""
    layers, kv_heads, _, dim = traces[0].k.shape
    spread = np.zeros((layers, kv_heads, dim, dim))
    for trace in traces:
        for layer in range(layers):
            keys = trace.keys(layer)
            keys = keys - keys.mean(axis=1, keepdims=True)
            spread[layer] += np.matmul(keys.transpose(0, 2, 1), keys)
    _, directions = np.linalg.eigh(spread)  # ascending
    lenses = []
    for count in counts:
        kept = directions[..., dim - count :].astype(np.float32)
        lenses.append(Lens(f"pca {count} of {dim}", "pca", count / dim, np.matmul(kept, kept.swapaxes(-1, -2))))
    return lenses


def by_chance(shape: tuple[int, int, int], counts: Sequence[int], seed: int = 1) -> list[Lens]:
    """The control: as many channels, drawn for each head."""
    worth = np.random.default_rng(seed).random(shape)
    return [
        Lens(f"random {count} of {shape[2]}", "random", count / shape[2], masks(_top_channels(worth, count)))
        for count in counts
    ]


def by_learning(
    traces: Sequence[Trace],
    counts: Sequence[int],
    groups: int,
    budget: Budget,
    scale: float,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Lens]:
    """Bands taken one after the other, in each head for itself, each time the one with which the chosen pages hold the most mass of the
    training traces."""
    layers, kv_heads, _, dim = traces[0].k.shape
    bands = bands_of(dim, groups)
    size = dim // groups
    wanted = sorted({max(1, count // size) for count in counts})
    keep = {count: np.zeros((layers, kv_heads, dim), bool) for count in wanted}
    for layer in range(layers):
        parts, mass = zip(*(_parts(trace, layer, bands, scale) for trace in traces))
        for head in range(kv_heads):
            taken: list[int] = []
            sums = [np.zeros_like(part[head, 0]) for part in parts]
            while len(taken) < wanted[-1]:
                gains = {
                    band: sum(
                        _captured(total + part[head, band], one_mass[:, head], trace, budget)
                        for trace, part, total, one_mass in zip(traces, parts, sums, mass)
                    )
                    for band in range(groups)
                    if band not in taken
                }
                best = max(gains, key=lambda band: (gains[band], band))
                taken.append(best)
                sums = [total + part[head, best] for total, part in zip(sums, parts)]
                if len(taken) in keep:
                    keep[len(taken)][layer, head, np.concatenate([bands[band] for band in taken])] = True
        progress(layer + 1, layers)
    return [
        Lens(f"learned {count * size} of {dim}", "greedy", count / groups, masks(kept)) for count, kept in keep.items()
    ]


def _parts(trace: Trace, layer: int, bands: list[np.ndarray], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits by band [kv_heads, bands, positions, group, tokens], and the mass of all channels [positions, kv_heads, tokens]."""
    keys = trace.keys(layer)
    kv_heads, tokens, dim = keys.shape
    asked = trace.q[:, layer].reshape(len(trace.positions), kv_heads, -1, dim).transpose(1, 0, 2, 3) * np.float32(scale)
    group = asked.shape[2]
    parts = np.empty((kv_heads, len(bands), len(trace.positions), group, tokens), np.float32)
    for number, band in enumerate(bands):
        flat = asked[..., band].reshape(kv_heads, -1, len(band))
        parts[:, number] = np.matmul(flat, keys[..., band].transpose(0, 2, 1)).reshape(parts[:, number].shape)
    return parts, token_mass(trace, layer, scale)


def _captured(logits: np.ndarray, mass: np.ndarray, trace: Trace, budget: Budget) -> float:
    """Share of the candidates' mass in the pages chosen by logits [positions, group, tokens]; mass [positions, tokens]."""
    total = 0.0
    for index, at in enumerate(trace.positions):
        scores = page_scores(logits[index], at + 1, budget)
        total += chosen_mass(scores, mass[index], at + 1, budget)[0]
    return total
