"""Low-rank matrices for `learned_indexer`, fitted to a model's own queries and keys on text.

For a layer and KV head, queries q of its group and differences k of keys from their mean meet as qᵀk. Of all pairs of matrices wq, wk of
rank r, those that keep E[(qᵀk − (wqᵀq)ᵀ(wkᵀk))²] least, q and k drawn apart, come from the second moments Q and K alone: with
Q^½ K^½ = U S Vᵀ they are wq = Q^-½ U_r S_r^½ and wk = K^-½ V_r S_r^½. Nothing is trained, and no page is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import _core
from ..errors import UserError
from . import traces

EVERY = 16  # tokens from one query that counts to the next


@dataclass
class Moments:
    """Sums over tokens of a layer's vectors. q: [kv_heads, dim, dim], k: likewise, mean: [kv_heads, dim]."""

    q: np.ndarray
    k: np.ndarray
    mean: np.ndarray
    queries: int = 0
    tokens: int = 0

    @classmethod
    def empty(cls, heads: int, dim: int) -> Moments:
        return cls(np.zeros((heads, dim, dim)), np.zeros((heads, dim, dim)), np.zeros((heads, dim)))

    def add(self, q: np.ndarray, k: np.ndarray):
        """q: float32 [queries, heads, dim], k: [kv_heads, tokens, dim]."""
        heads, tokens, dim = k.shape
        grouped = q.reshape(len(q), heads, -1, dim).transpose(1, 0, 2, 3).reshape(heads, -1, dim).astype(np.float64)
        keys = k.astype(np.float64)
        self.q += grouped.transpose(0, 2, 1) @ grouped
        self.k += keys.transpose(0, 2, 1) @ keys
        self.mean += keys.sum(1)
        self.queries += grouped.shape[1]
        self.tokens += tokens


def _roots(moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square root of a moment and the inverse of that, [heads, dim, dim]; directions that never occur keep their place."""
    values, vectors = np.linalg.eigh(moment)
    root = np.sqrt(np.maximum(values, values.max(-1, keepdims=True) * 1e-6))
    turned = vectors.swapaxes(-1, -2)
    return vectors * root[:, None, :] @ turned, vectors / root[:, None, :] @ turned


def matrices(moments: Moments, rank: int) -> tuple[np.ndarray, np.ndarray, float]:
    """wq and wk, [kv_heads, dim, rank], and the share of the logits' square that they keep, mean over heads."""
    dim = moments.k.shape[-1]
    if not 1 <= rank <= dim:
        raise UserError("fit", f"a rank from 1 to {dim}, the channels of a head", str(rank), "choose another")
    mean = moments.mean / moments.tokens
    q_root, q_inverse = _roots(moments.q / moments.queries)
    k_root, k_inverse = _roots(moments.k / moments.tokens - mean[:, :, None] * mean[:, None, :])
    u, s, v = np.linalg.svd(q_root @ k_root)
    scale = np.sqrt(s[:, None, :rank])
    wq = q_inverse @ u[:, :, :rank] * scale
    wk = k_inverse @ v[:, :rank].swapaxes(1, 2) * scale
    return wq, wk, float(((s[:, :rank] ** 2).sum(-1) / (s**2).sum(-1)).mean())


def fit(loaded, pieces: list[list[int]], *, rank: int, threads: int, say=lambda line: None) -> tuple[dict, float]:
    """Arrays wq and wk, float32 [layers, kv_heads, dim, rank], from pieces of text read one by one, and the share of the logits' square
    that they keep there, mean over layers and heads. `loaded`: a model on the CPU."""
    if not pieces:
        raise UserError("fit", "text to fit on", "none", "give at least one piece")
    longest = max(map(len, pieces))
    shape = loaded.config.attention
    bench = _core.Workbench(
        loaded.model, page_size=16, pages=longest // 16 + 8, max_batch=1, threads=threads, kv_dtype="bf16"
    )
    moments = [Moments.empty(shape.kv_heads, shape.head_dim) for _ in range(shape.layers)]
    for number, piece in enumerate(pieces, 1):
        trace = traces.record(bench, loaded.model, piece, range(0, len(piece), EVERY))
        for layer, sums in enumerate(moments):
            sums.add(trace.q[:, layer], trace.keys(layer))
        say(f"read {number} of {len(pieces)} pieces")
    fitted = [matrices(sums, rank) for sums in moments]
    arrays = {
        name: np.stack([layer[place] for layer in fitted]).astype(np.float32) for place, name in enumerate(("wq", "wk"))
    }
    return arrays, float(np.mean([layer[2] for layer in fitted]))
