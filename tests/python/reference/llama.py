"""An independent Llama, Qwen2, Qwen3 and Qwen3-MoE in NumPy: the definition that the C++ model and the engine are tested
against.

It shares nothing with vortex_attention: it reads GGUF with the gguf package and folders with the safetensors package, keeps q and k rows as the file stores
them (Llama's so that channels 2i and 2i + 1 rotate together, Qwen2's i and i + dim / 2), attends in one piece, and
computes in float64 unless told otherwise. It can decode page-sparsely with any rule that chooses pages. It is slow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from safetensors import deserialize

from reference.random_folder import e4m3_values

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
    rope_scaling: dict = field(default_factory=dict)  # as config.json has it
    experts_per_token: int = 0
    normalise_experts: bool = True


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
        value = {name: entry.contents() for name, entry in reader.fields.items()}
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
            experts_per_token=value.get("expert_used_count", 0),
        )
        if "rope.scaling.type" in value:
            names = {
                "factor": "factor",
                "original_context_length": "original_max_position_embeddings",
                "type": "rope_type",
            }
            config.rope_scaling = {
                ours: value[f"rope.scaling.{name}"] for name, ours in names.items() if f"rope.scaling.{name}" in value
            }
        weights = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
        for name in [name for name in weights if "_exps." in name]:
            for i, expert in enumerate(weights.pop(name)):
                weights[name.replace("_exps.weight", f".{i}.weight")] = expert
        return cls(config, weights, **options)

    @classmethod
    def from_folder(cls, folder, fp8_to_bfloat16: bool = False, **options) -> "Llama":
        """A Hugging Face folder; its names become those of GGUF, which this file speaks. fp8_to_bfloat16: an fp8 weight
        times its scale rounds to bfloat16."""
        import json

        value = json.loads((folder / "config.json").read_text())
        heads, width = value["num_attention_heads"], value["hidden_size"]
        config = Config(
            layers=value["num_hidden_layers"],
            width=width,
            heads=heads,
            kv_heads=value["num_key_value_heads"],
            head_dim=value.get("head_dim", width // heads),
            rms_epsilon=value["rms_norm_eps"],
            rope_base=value["rope_theta"],
            rope_pairs=False,
            rope_scaling=value.get("rope_scaling") or {},
            experts_per_token=value.get("num_experts_per_tok", 0),
            normalise_experts=value.get("norm_topk_prob", False),
        )
        block = value.get("quantization_config", {}).get("weight_block_size")
        stored = {}
        for path in sorted(folder.glob("*.safetensors")):
            stored |= dict(deserialize(path.read_bytes()))
        weights = {_gguf_name(name): _decode(name, stored, block) for name in stored if not name.endswith("_scale_inv")}
        if fp8_to_bfloat16:
            for name in [name for name in stored if stored[name]["dtype"] == "F8_E4M3"]:
                weights[_gguf_name(name)] = round_to_bfloat16(weights[_gguf_name(name)])
        if value["tie_word_embeddings"]:
            weights.pop("output.weight", None)
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
            if f"blk.{i}.attn_q_norm.weight" in w:
                q, k = self._norm(q, w[f"blk.{i}.attn_q_norm.weight"]), self._norm(k, w[f"blk.{i}.attn_k_norm.weight"])
            q, k = self._rotate(q, position) * c.head_dim**-0.5, self._rotate(k, position)
            if self.kv_bfloat16:
                k, v = round_to_bfloat16(k), round_to_bfloat16(v)
            attended = np.empty_like(q)
            for (cache, _), begin, end in zip(batch, edges, edges[1:]):
                cache.append(i, k[begin:end], v[begin:end])
                attended[begin:end] = self._attend(cache, i, q[begin:end], choose, page_size)
            x = x + attended.reshape(len(x), -1) @ w[f"blk.{i}.attn_output.weight"].T
            h = self._norm(x, w[f"blk.{i}.ffn_norm.weight"])
            x = x + (self._experts(h, i) if c.experts_per_token else self._feed_forward(h, f"blk.{i}.ffn_", ".weight"))
        if last_only:
            x, edges = x[edges[1:] - 1], np.arange(len(batch) + 1)
        logits = self._norm(x, w["output_norm.weight"]) @ self.head.T
        return [logits[begin:end] for begin, end in zip(edges, edges[1:])]

    def _feed_forward(self, h: np.ndarray, before: str, after: str) -> np.ndarray:
        gate, up, down = (self.weights[f"{before}{name}{after}"] for name in ("gate", "up", "down"))
        gate, up = h @ gate.T, h @ up.T
        return (gate / (1 + np.exp(-gate)) * up) @ down.T

    def _experts(self, h: np.ndarray, layer: int) -> np.ndarray:
        """Every token by itself, every chosen expert by itself."""
        logits = h @ self.weights[f"blk.{layer}.ffn_gate_inp.weight"].T
        share = np.exp(logits - logits.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        out = np.zeros_like(h)
        for t, token in enumerate(h):
            best = np.argsort(-share[t], kind="stable")[: self.config.experts_per_token]
            total = share[t, best].sum() if self.config.normalise_experts else 1
            for expert in best:
                name = f"blk.{layer}.ffn_", f".{expert}.weight"
                out[t] += share[t, expert] / total * self._feed_forward(token[None], *name)[0]
        return out

    def _norm(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.dtype(self.config.rms_epsilon)) * weight

    def _frequencies(self) -> tuple[np.ndarray, float]:
        """What each pair turns by from one position to the next, and what rotated channels are multiplied by; a pair at
        a time, from the definitions of the kinds of scaling."""
        dim, base, scaling = self.config.head_dim, float(self.config.rope_base), self.config.rope_scaling
        plain = [base ** (-2 * i / dim) for i in range(dim // 2)]
        if "rope_freqs.weight" in self.weights:
            return np.array(plain) / self.weights["rope_freqs.weight"].reshape(-1), 1.0
        kind, factor = scaling.get("rope_type"), scaling.get("factor", 1.0)
        if kind == "linear":
            return np.array(plain) / factor, 1.0
        if kind == "llama3":
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            original, scaled = scaling["original_max_position_embeddings"], []
            for frequency in plain:
                wave = 2 * np.pi / frequency
                if wave < original / high:
                    scaled.append(frequency)
                elif wave > original / low:
                    scaled.append(frequency / factor)
                else:
                    smooth = (original / wave - low) / (high - low)
                    scaled.append((1 - smooth) * frequency / factor + smooth * frequency)
            return np.array(scaled), 1.0
        if kind == "yarn":
            original = scaling["original_max_position_embeddings"]
            index = lambda turns: dim * np.log(original / (turns * 2 * np.pi)) / (2 * np.log(base))  # noqa: E731
            first, last = max(np.floor(index(32)), 0), min(np.ceil(index(1)), dim - 1)
            scaled = []
            for i, frequency in enumerate(plain):
                share = min(max((i - first) / (last - first), 0), 1)  # of what is stretched
                scaled.append(frequency / factor * share + frequency * (1 - share))
            return np.array(scaled), 0.1 * np.log(factor) + 1
        assert not scaling, scaling
        return np.array(plain), 1.0

    def _rotate(self, x: np.ndarray, position: np.ndarray) -> np.ndarray:
        """x: [tokens, heads, head_dim]; the channels that rotate together are a real and an imaginary part."""
        frequency, magnitude = self._frequencies()
        angle = position[:, None, None] * frequency
        cos, sin = (magnitude * np.cos(angle)).astype(self.dtype), (magnitude * np.sin(angle)).astype(self.dtype)
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


def _gguf_name(name: str) -> str:
    import re

    for pattern, ours in {
        r"model\.embed_tokens\.(.*)": r"token_embd.\1",
        r"model\.norm\.(.*)": r"output_norm.\1",
        r"lm_head\.(.*)": r"output.\1",
        r"model\.layers\.(\d+)\.input_layernorm\.(.*)": r"blk.\1.attn_norm.\2",
        r"model\.layers\.(\d+)\.post_attention_layernorm\.(.*)": r"blk.\1.ffn_norm.\2",
        r"model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(.*)": r"blk.\1.attn_\2.\3",
        r"model\.layers\.(\d+)\.self_attn\.([qk])_norm\.(.*)": r"blk.\1.attn_\2_norm.\3",
        r"model\.layers\.(\d+)\.self_attn\.o_proj\.(.*)": r"blk.\1.attn_output.\2",
        r"model\.layers\.(\d+)\.mlp\.gate\.(.*)": r"blk.\1.ffn_gate_inp.\2",
        r"model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.(.*)": r"blk.\1.ffn_\2.\3",
        r"model\.layers\.(\d+)\.mlp\.experts\.(\d+)\.(gate|up|down)_proj\.(.*)": r"blk.\1.ffn_\3.\2.\4",
    }.items():
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours, name)
    raise AssertionError(name)


def _decode(name: str, stored: dict, block: list[int] | None) -> np.ndarray:
    """A tensor of a safetensors file in float64, an fp8 one times its scales."""
    kind, shape, data = (stored[name][part] for part in ("dtype", "shape", "data"))
    if kind == "BF16":
        values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif kind == "F8_E4M3":
        values = e4m3_values()[np.frombuffer(data, np.uint8)]
    else:
        values = np.frombuffer(data, {"F32": np.float32, "F16": np.float16}[kind])
    values = values.reshape(shape).astype(np.float64)
    if kind != "F8_E4M3":
        return values
    scale = _decode(name.removesuffix("weight") + "weight_scale_inv", stored, None)
    rows, columns = block or shape
    return values * np.kron(np.atleast_2d(scale), np.ones((rows, columns)))[: shape[0], : shape[1]]
