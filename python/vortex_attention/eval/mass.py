"""Where attention's mass lies, from traces: the share of each token and page, in every layer and KV head."""

from __future__ import annotations

import numpy as np

from .traces import Trace


def softmax_up_to(logits: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Softmax over the last axis of logits [..., positions, heads, tokens], each position over itself and what lies before it.
    Overwrites and returns `logits`."""
    later = np.arange(logits.shape[-1])[None, :] > positions[:, None]
    logits[np.broadcast_to(later[:, None, :], logits.shape)] = -np.inf
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits


def logits_of(trace: Trace, layer: int, scale: float) -> np.ndarray:
    """float32 [kv_heads, positions, group, tokens], of all tokens, later ones too."""
    keys = trace.keys(layer)
    kv_heads, _, dim = keys.shape
    q = trace.q[:, layer].reshape(len(trace.positions), kv_heads, -1, dim).transpose(1, 0, 2, 3)
    flat = np.ascontiguousarray(q).reshape(kv_heads, -1, dim) * np.float32(scale)
    return np.matmul(flat, keys.transpose(0, 2, 1)).reshape(*q.shape[:3], -1)


def token_mass(trace: Trace, layer: int, scale: float) -> np.ndarray:
    """Mean over the heads that share a KV head: float32 [positions, kv_heads, tokens]."""
    return softmax_up_to(logits_of(trace, layer, scale), trace.positions).mean(axis=2).transpose(1, 0, 2)


def page_mass(mass: np.ndarray, page_size: int) -> np.ndarray:
    """Of pages instead of tokens, on the last axis."""
    return np.add.reduceat(mass, np.arange(0, mass.shape[-1], page_size), axis=-1)


def pages_for(mass: np.ndarray, share: float) -> np.ndarray:
    """The fewest pages that hold `share` of the mass, over the last axis."""
    cumulated = np.cumsum(-np.sort(-mass, axis=-1), axis=-1)
    return (cumulated < share * cumulated[..., -1:]).sum(axis=-1) + 1
