"""An independent DeepSeek-V2 in NumPy, in float64: latent attention as the paper writes it, with the keys and values of
every head made from the latent of every token. Nothing is absorbed. It can decode page-sparsely with any rule that
chooses pages, which sees what a flow sees: q and keys in the latent space. It is slow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from reference.llama import round_to_bfloat16


@dataclass
class Config:
    layers: int = 3
    width: int = 64
    ffn_width: int = 96
    heads: int = 4
    nope: int = 32  # channels of a head that do not rotate
    rope: int = 16
    value: int = 32
    latent: int = 64
    q_rank: int = 0  # 0: q directly from x
    vocabulary: int = 160
    context: int = 512
    rms_epsilon: float = 1e-6
    rope_base: float = 10000.0
    scale: float = 0.0  # of the logits; 0: (nope + rope)^-0.5

    @property
    def logit_scale(self) -> float:
        return self.scale or (self.nope + self.rope) ** -0.5


@dataclass
class Cache:
    """What one sequence has stored: by layer, the normed latent [tokens, latent] and the rotated key [tokens, rope]."""

    layers: int
    latents: list = field(default_factory=list)
    rotated: list = field(default_factory=list)

    def __post_init__(self):
        self.latents, self.rotated = [None] * self.layers, [None] * self.layers

    @property
    def length(self) -> int:
        return 0 if self.latents[0] is None else len(self.latents[0])

    def append(self, layer: int, latent: np.ndarray, rotated: np.ndarray) -> None:
        for store, new in ((self.latents, latent), (self.rotated, rotated)):
            store[layer] = new if store[layer] is None else np.concatenate([store[layer], new])


def random_weights(c: Config, seed: int) -> dict[str, np.ndarray]:
    """Under HF names, float32; a norm is a vector."""
    rng = np.random.default_rng(seed)

    def matrix(rows, columns):
        return rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)

    def norm(size):
        return rng.normal(1, 0.1, size).astype(np.float32)

    w = {"model.embed_tokens.weight": matrix(c.vocabulary, c.width), "model.norm.weight": norm(c.width)}
    w["lm_head.weight"] = matrix(c.vocabulary, c.width)
    for i in range(c.layers):
        layer, attention = f"model.layers.{i}.", f"model.layers.{i}.self_attn."
        w[layer + "input_layernorm.weight"], w[layer + "post_attention_layernorm.weight"] = norm(c.width), norm(c.width)
        if c.q_rank:
            w[attention + "q_a_proj.weight"] = matrix(c.q_rank, c.width)
            w[attention + "q_a_layernorm.weight"] = norm(c.q_rank)
            w[attention + "q_b_proj.weight"] = matrix(c.heads * (c.nope + c.rope), c.q_rank)
        else:
            w[attention + "q_proj.weight"] = matrix(c.heads * (c.nope + c.rope), c.width)
        w[attention + "kv_a_proj_with_mqa.weight"] = matrix(c.latent + c.rope, c.width)
        w[attention + "kv_a_layernorm.weight"] = norm(c.latent)
        w[attention + "kv_b_proj.weight"] = matrix(c.heads * (c.nope + c.value), c.latent)
        w[attention + "o_proj.weight"] = matrix(c.width, c.heads * c.value)
        w[layer + "mlp.gate_proj.weight"] = matrix(c.ffn_width, c.width)
        w[layer + "mlp.up_proj.weight"] = matrix(c.ffn_width, c.width)
        w[layer + "mlp.down_proj.weight"] = matrix(c.width, c.ffn_width)
    return w


class DeepSeek:
    """kv_bfloat16: what is stored of a token is rounded to bfloat16, as the engine stores it."""

    def __init__(self, config: Config, weights: dict[str, np.ndarray], kv_bfloat16: bool = True):
        self.config, self.kv_bfloat16 = config, kv_bfloat16
        self.weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}

    def cache(self) -> Cache:
        return Cache(self.config.layers)

    def forward(self, cache: Cache, tokens: Sequence[int], choose=None, page_size: int = 16) -> np.ndarray:
        """Appends the tokens; their logits [tokens, vocabulary]. choose(layer, kv_head, q [heads, latent + rope] times
        the softmax scale, keys [tokens, latent + rope]) -> pages that a single new token attends."""
        c, w = self.config, self.weights
        position = np.arange(cache.length, cache.length + len(tokens))
        x = w["model.embed_tokens.weight"][np.asarray(tokens, int)]
        for i in range(c.layers):
            layer = f"model.layers.{i}."
            h = self._norm(x, w[layer + "input_layernorm.weight"])
            x = x + self._attention(cache, i, h, position, choose, page_size) @ w[layer + "self_attn.o_proj.weight"].T
            h = self._norm(x, w[layer + "post_attention_layernorm.weight"])
            gate, up = h @ w[layer + "mlp.gate_proj.weight"].T, h @ w[layer + "mlp.up_proj.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[layer + "mlp.down_proj.weight"].T
        return self._norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T

    def _attention(self, cache, i, h, position, choose, page_size):
        c, name = self.config, f"model.layers.{i}.self_attn."
        w = {
            key.removeprefix(name).removesuffix(".weight"): v for key, v in self.weights.items() if key.startswith(name)
        }
        if c.q_rank:
            q = self._norm(h @ w["q_a_proj"].T, w["q_a_layernorm"]) @ w["q_b_proj"].T
        else:
            q = h @ w["q_proj"].T
        q = q.reshape(len(h), c.heads, c.nope + c.rope)
        q_nope, q_rope = q[..., : c.nope], self._rotate(q[..., c.nope :], position)
        down = h @ w["kv_a_proj_with_mqa"].T
        latent = self._norm(down[:, : c.latent], w["kv_a_layernorm"])
        rotated = self._rotate(down[:, None, c.latent :], position)[:, 0]
        if self.kv_bfloat16:
            latent, rotated = round_to_bfloat16(latent), round_to_bfloat16(rotated)
        cache.append(i, latent, rotated)
        latents, rotated = cache.latents[i], cache.rotated[i]
        up = w["kv_b_proj"].reshape(c.heads, c.nope + c.value, c.latent)
        keys = np.einsum("hcl,sl->shc", up[:, : c.nope], latents)
        values = np.einsum("hcl,sl->shc", up[:, c.nope :], latents)
        logits = np.einsum("thc,shc->ths", q_nope, keys) + np.einsum("thr,sr->ths", q_rope, rotated)
        logits *= c.logit_scale
        total = len(latents)
        visible = np.arange(total) <= position[:, None]
        if choose is not None and len(h) == 1:
            absorbed = np.einsum("hc,hcl->hl", q_nope[0], up[:, : c.nope])
            seen = np.concatenate([absorbed, q_rope[0]], -1) * c.logit_scale
            pages = choose(i, 0, seen, np.concatenate([latents, rotated], -1))
            visible = visible & np.isin(np.arange(total) // page_size, pages)
        logits = np.where(visible[:, None], logits, -np.inf)
        share = np.exp(logits - logits.max(-1, keepdims=True))
        attended = np.einsum("ths,shc->thc", share / share.sum(-1, keepdims=True), values)
        return attended.reshape(len(h), -1)

    def _norm(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config.rms_epsilon) * weight

    def _rotate(self, x, position):
        """x: [tokens, heads, rope]; channels 2i and 2i + 1 are a complex number."""
        frequency = self.config.rope_base ** (-np.arange(0, self.config.rope, 2) / self.config.rope)
        turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * position[:, None, None] * frequency)
        out = np.empty_like(x)
        out[..., 0::2], out[..., 1::2] = turned.real, turned.imag
        return out
