"""An independent Llama in NumPy: the definition that the C++ model and the engine are tested against.

It shares nothing with vortex_attention: it reads GGUF with the gguf package, keeps q and k rows as the file stores
them (Llama's so that channels 2i and 2i + 1 rotate together, Qwen2's i and i + dim / 2), attends in one piece, and
computes in float64 unless told otherwise. It can decode page-sparsely with any rule that chooses pages. It is slow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

# choose(layer, kv_head, q [group, dim] times the softmax scale, keys [tokens, dim]) -> pages to attend
Choose = Callable[[int, int, np.ndarray, np.ndarray], Sequence[int]]


def round_to_bfloat16(x: np.ndarray) -> np.ndarray:
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return bits.astype(np.uint32).view(np.float32).astype(x.dtype)


@dataclass
class Config:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_epsilon: float
    rope_base: float
    rope_pairs: bool = True  # channels (2i, 2i + 1) rotate together, not (i, i + dim / 2)


@dataclass
class Cache:
    """What one sequence has stored: its keys and values by layer, [tokens, kv_heads, head_dim]."""

    layers: int
    keys: list = field(default_factory=list)
    values: list = field(default_factory=list)

    def __post_init__(self):
        self.keys, self.values = [None] * self.layers, [None] * self.layers

    @property
    def length(self) -> int:
        return 0 if self.keys[0] is None else len(self.keys[0])

    def append(self, layer: int, k: np.ndarray, v: np.ndarray) -> None:
        empty = self.keys[layer] is None
        self.keys[layer] = k if empty else np.concatenate([self.keys[layer], k])
        self.values[layer] = v if empty else np.concatenate([self.values[layer], v])


class Llama:
    """kv_bfloat16: keys and values are rounded to bfloat16 when stored, as the engine stores them."""

    def __init__(self, config: Config, weights: dict[str, np.ndarray], dtype=np.float64, kv_bfloat16: bool = True):
        self.config, self.dtype, self.kv_bfloat16 = config, dtype, kv_bfloat16
        self.weights = {name: np.asarray(value, dtype) for name, value in weights.items()}
        self.head = self.weights.get("output.weight", self.weights["token_embd.weight"])

    @classmethod
    def from_gguf(cls, path, **options) -> "Llama":
        from gguf import GGUFReader
        from gguf.quants import dequantize

        reader = GGUFReader(path)
        value = {name: entry.contents() for name, entry in reader.fields.items() if name.startswith(("", "qwen2."))}
        value = {name.partition(".")[2]: entry for name, entry in value.items()}
        heads, width = value["attention.head_count"], value["embedding_length"]
        config = Config(
            layers=value["block_count"],
            width=width,
            heads=heads,
            kv_heads=value["attention.head_count_kv"],
            head_dim=value.get("attention.key_length", width // heads),
            rms_epsilon=value["attention.layer_norm_rms_epsilon"],
            rope_base=value["rope.freq_base"],
            rope_pairs=reader.fields["general.architecture"].contents() == "llama",
        )
        weights = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
        return cls(config, weights, **options)

    def cache(self) -> Cache:
        return Cache(self.config.layers)

    def forward(
        self,
        batch: list[tuple[Cache, Sequence[int]]],
        choose: Choose | None = None,
        page_size: int = 16,
        last_only: bool = False,
    ) -> list[np.ndarray]:
        """Appends each sequence's tokens; their logits [tokens, vocabulary] (last_only: [1, vocabulary]), one array a
        sequence. choose: a sequence with a single new token attends only the pages it names, per layer and KV
        head."""
        c, w = self.config, self.weights
        counts = [len(tokens) for _, tokens in batch]
        edges = np.cumsum([0, *counts])
        position = np.concatenate([np.arange(s.length, s.length + n) for (s, _), n in zip(batch, counts)])
        x = w["token_embd.weight"][np.concatenate([np.asarray(tokens, int) for _, tokens in batch])]
        for i in range(c.layers):
            h = self._norm(x, w[f"blk.{i}.attn_norm.weight"])
            q, k, v = (
                (h @ w[f"blk.{i}.attn_{name}.weight"].T + w.get(f"blk.{i}.attn_{name}.bias", 0)).reshape(
                    len(h), -1, c.head_dim
                )
                for name in ("q", "k", "v")
            )
            q, k = self._rotate(q, position) * c.head_dim**-0.5, self._rotate(k, position)
            if self.kv_bfloat16:
                k, v = round_to_bfloat16(k), round_to_bfloat16(v)
            attended = np.empty_like(q)
            for (cache, _), begin, end in zip(batch, edges, edges[1:]):
                cache.append(i, k[begin:end], v[begin:end])
                attended[begin:end] = self._attend(cache, i, q[begin:end], choose, page_size)
            x = x + attended.reshape(len(x), -1) @ w[f"blk.{i}.attn_output.weight"].T
            h = self._norm(x, w[f"blk.{i}.ffn_norm.weight"])
            gate, up = h @ w[f"blk.{i}.ffn_gate.weight"].T, h @ w[f"blk.{i}.ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"blk.{i}.ffn_down.weight"].T
        if last_only:
            x, edges = x[edges[1:] - 1], np.arange(len(batch) + 1)
        logits = self._norm(x, w["output_norm.weight"]) @ self.head.T
        return [logits[begin:end] for begin, end in zip(edges, edges[1:])]

    def _norm(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.dtype(self.config.rms_epsilon)) * weight

    def _rotate(self, x: np.ndarray, position: np.ndarray) -> np.ndarray:
        """x: [tokens, heads, head_dim]; the channels that rotate together are a real and an imaginary part."""
        frequency = float(self.config.rope_base) ** (-np.arange(0, self.config.head_dim, 2) / self.config.head_dim)
        angle = position[:, None, None] * frequency
        cos, sin = np.cos(angle).astype(self.dtype), np.sin(angle).astype(self.dtype)
        half = self.config.head_dim // 2
        real, imaginary = (
            (slice(0, None, 2), slice(1, None, 2)) if self.config.rope_pairs else (slice(half), slice(half, None))
        )
        out = np.empty_like(x)
        out[..., real] = x[..., real] * cos - x[..., imaginary] * sin
        out[..., imaginary] = x[..., real] * sin + x[..., imaginary] * cos
        return out

    def _attend(self, cache: Cache, layer: int, q: np.ndarray, choose: Choose | None, page_size: int) -> np.ndarray:
        keys, values = cache.keys[layer], cache.values[layer]
        total, new = len(keys), len(q)
        group = self.config.heads // self.config.kv_heads
        out = np.empty_like(q)
        for kv_head in range(self.config.kv_heads):
            heads = slice(kv_head * group, (kv_head + 1) * group)
            k, v = keys[:, kv_head], values[:, kv_head]
            logits = np.einsum("thd,sd->ths", q[:, heads], k, optimize=True)
            visible = np.arange(total) <= np.arange(total - new, total)[:, None]
            if choose is not None and new == 1:
                pages = choose(layer, kv_head, q[0, heads], k)
                visible = visible & np.isin(np.arange(total) // page_size, pages)
            logits = np.where(visible[:, None], logits, -np.inf)
            share = np.exp(logits - logits.max(-1, keepdims=True))
            out[:, heads] = np.einsum("ths,sd->thd", share / share.sum(-1, keepdims=True), v, optimize=True)
        return out
