"""Traces: the queries that a model's layers ask at some positions of a text, with the keys and values of the whole text, as full
attention made them. What attention does with them needs no model any more. Kept on disk, named by model, numerics, tokens and
positions. Made on the CPU, K and V in bf16."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .kept import KeptFiles

VERSION = 1


@dataclass(frozen=True)
class Trace:
    """positions: ascending, of the tokens whose queries are kept: q [positions, layers, heads, head_dim], float32, after QK-norm and
    RoPE, not multiplied by the softmax scale. k [layers, kv_heads, tokens, head_dim] and v [layers, kv_heads, tokens, value_dim]
    hold the bits of bf16; v is None where values lie in the keys."""

    positions: np.ndarray
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray | None

    @property
    def tokens(self) -> int:
        return self.k.shape[2]

    def keys(self, layer: int) -> np.ndarray:
        """float32 [kv_heads, tokens, head_dim]."""
        return widen(self.k[layer])

    def values(self, layer: int, value_dim: int) -> np.ndarray:
        """float32 [kv_heads, tokens, value_dim]."""
        return widen(self.k[layer])[..., :value_dim] if self.v is None else widen(self.v[layer])


def widen(bits: np.ndarray) -> np.ndarray:
    """The numbers of bf16 bits, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrow(numbers: np.ndarray) -> np.ndarray:
    """Rounded to bf16 (to the nearest, ties to even), as float32."""
    bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def recorded_rows(traces: Sequence[Trace]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """q, K and V of the positions of all traces, one after another, as `replay_model` takes them: float32 [positions, layers, heads, dim]."""

    def at_positions(plane: str) -> np.ndarray:
        planes = [getattr(trace, plane)[:, :, trace.positions].transpose(2, 0, 1, 3) for trace in traces]
        return np.concatenate([widen(np.ascontiguousarray(one)) for one in planes])

    q = np.concatenate([trace.q for trace in traces])
    return q, at_positions("k"), None if traces[0].v is None else at_positions("v")


def unpack(saved: bytes, tokens: int, geometry, page_size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """K and V of Workbench.save as in a Trace."""
    page_bits = _page_bits(geometry, page_size)
    raw = np.frombuffer(saved, dtype=np.uint16).reshape(geometry.layers, -1, _stride(page_bits))[..., :page_bits]
    keys_of_page = page_size * geometry.head_dim
    heads = raw.reshape(geometry.layers, raw.shape[1], geometry.kv_heads, -1)

    def plane(part: np.ndarray, dim: int) -> np.ndarray:
        paged = part.reshape(*part.shape[:3], page_size, dim).transpose(0, 2, 1, 3, 4)
        return np.ascontiguousarray(paged.reshape(geometry.layers, geometry.kv_heads, -1, dim)[:, :, :tokens])

    k = plane(heads[..., :keys_of_page], geometry.head_dim)
    return k, None if geometry.values_in_keys else plane(heads[..., keys_of_page:], geometry.value_dim)


def pack(trace: Trace, geometry, page_size: int) -> bytes:
    """What Workbench.restore takes for pages of that size."""
    pages = -(-trace.tokens // page_size)
    page_bits = _page_bits(geometry, page_size)

    def plane(part: np.ndarray) -> np.ndarray:
        padded = np.zeros((*part.shape[:2], pages * page_size, part.shape[3]), dtype=np.uint16)
        padded[:, :, : trace.tokens] = part
        paged = padded.reshape(*part.shape[:2], pages, page_size * part.shape[3])
        return paged.transpose(0, 2, 1, 3)  # [layers, pages, kv_heads, numbers]

    parts = [plane(part) for part in (trace.k, trace.v) if part is not None]
    out = np.zeros((geometry.layers, pages, _stride(page_bits)), dtype=np.uint16)
    out[..., :page_bits] = np.concatenate(parts, axis=3).reshape(geometry.layers, pages, page_bits)
    return out.tobytes()


def _page_bits(geometry, page_size: int) -> int:
    channels = geometry.head_dim + (0 if geometry.values_in_keys else geometry.value_dim)
    return geometry.kv_heads * page_size * channels


def _stride(page_bits: int) -> int:
    """A page of a layer is a multiple of four bytes."""
    return page_bits + page_bits % 2


def attend(q, keys, values, scale: float) -> np.ndarray:
    """One query of each head over the first tokens. q [heads, head_dim], keys [kv_heads, n, head_dim], values [kv_heads, n, value_dim];
    float32 [heads, value_dim]."""
    kv_heads = keys.shape[0]
    logits = scale * np.matmul(q.reshape(kv_heads, -1, q.shape[-1]), keys.transpose(0, 2, 1))
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return np.matmul(shares, values).reshape(q.shape[0], -1)


def record(bench, model, tokens: Sequence[int], positions: Sequence[int]) -> Trace:
    """Prefills the tokens on a workbench of bf16 KV and asks the queries of the tokens at `positions`, each over what lies before it."""
    geometry, page = model.config.attention, bench.page_size
    sequence = bench.prefill(list(tokens))
    try:
        k, v = unpack(bench.save(sequence), len(tokens), geometry, page)
    finally:
        bench.release(sequence)
    places = np.asarray(positions)
    q = np.zeros((len(places), geometry.layers, geometry.kv_heads * geometry.group, geometry.head_dim), np.float32)
    trace = Trace(places, q, k, v)

    def ask(layer: int, asked: np.ndarray, own_k: np.ndarray, own_v: np.ndarray | None) -> np.ndarray:
        q[:, layer] = asked
        keys, values = trace.keys(layer), trace.values(layer, geometry.value_dim)
        rows = [
            attend(asked[row], keys[:, : at + 1], values[:, : at + 1], geometry.scale) for row, at in enumerate(places)
        ]
        return np.stack(rows).astype(np.float32)

    model.step([int(tokens[at]) for at in places], [int(at) for at in places], ask, [])
    return trace


class Traces(KeptFiles):
    """limit: bytes that the folder may hold."""

    def __init__(self, folder: Path, limit: int, say: Callable[[str], None]):
        super().__init__(folder, limit, say, magic=b"vortex-trace 1\n", suffix="trace", what="trace")

    @staticmethod
    def key(model_sha256: str, numerics: str, tokens: Sequence[int], positions: Sequence[int]) -> str:
        state = hashlib.sha256(f"trace {VERSION} {model_sha256} {numerics} {len(tokens)} ".encode())
        for numbers in (tokens, positions):
            state.update(np.asarray(numbers, dtype=np.int32).tobytes())
        return state.hexdigest()

    def find(self, key: str) -> Trace | None:
        saved = self.read(key)
        if saved is None:
            return None
        with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
            return Trace(arrays["positions"], arrays["q"], arrays["k"], arrays["v"] if "v" in arrays else None)

    def keep(self, key: str, trace: Trace) -> None:
        arrays = {"positions": trace.positions, "q": trace.q, "k": trace.k}
        file = io.BytesIO()
        np.savez(file, **(arrays if trace.v is None else arrays | {"v": trace.v}))
        self.write(key, file.getvalue())
