"""What a model and the sequences on it will take of memory, said before anything is loaded, and refused when there is
less. Weights that are used where they lie in a mapped file are left out: the system reads and drops them as it likes.
"""

from dataclasses import dataclass

from vortex_attention import _core
from vortex_attention.errors import MachineError
from vortex_attention.models.source import Source


@dataclass(frozen=True)
class Memory:
    """Bytes. `loading`: of the weights that are read or made at once while others are packed; gone when all are."""

    name: str
    weights: int
    loading: int
    scratch: int
    kv: int = 0
    summaries: int = 0

    @property
    def total(self) -> int:
        return self.weights + max(self.loading, self.scratch + self.kv + self.summaries)

    def __str__(self) -> str:
        parts = {"weights": self.weights, "KV": self.kv, "summaries": self.summaries, "scratch": self.scratch}
        if self.loading > self.scratch + self.kv + self.summaries:
            parts = {"weights": self.weights, "others while they are loaded": self.loading}
        said = ", ".join(f"{name} {size_of(value)}" for name, value in parts.items() if value)
        return f"{self.name} takes {size_of(self.total)} of memory ({said})"

    def require(self, todo: str = "use a smaller model or format") -> None:
        """MachineError unless that much can be had."""
        available = _core.available_memory()
        if self.total > available:
            raise MachineError("memory", str(self), f"{size_of(available)} can be had here", todo)


def memory_of(
    source: Source,
    *,
    batch: int,
    chunk: int = _core.EngineConfig().chunk_tokens,
    pages: int = 0,
    page_size: int = 16,
    summary_bytes: int = 0,
    kv_dtype: str = "bf16",
) -> Memory:
    """batch: sequences of a step; chunk: prompt tokens beside them; pages: of KV, of page_size tokens; summary_bytes: of
    all flows for a page, a KV head and a layer."""
    config, weights = source.config, source.weights()
    held, together, in_place = 0, {}, set()
    for name, rows, columns, use in _core.required_weights(config):
        weight = weights.get(name)
        if weight is None or (weight.rows, weight.columns) != (rows, columns):
            continue  # the model will say so
        made = 0 if weight.mapped else weight.bytes
        if use == "linear":
            held += _core.packed_bytes(weight.format, rows, columns)
            if name not in in_place:  # those on one input are packed together: q, k and v
                group = name.removesuffix(".weight").rpartition(".")[0], columns
                together[group] = together.get(group, 0) + made
        else:
            held += 4 * columns if use == "vector" else made
            in_place.add(name)
    attention = config.attention
    heads = config.layers * attention.kv_heads
    channels = attention.head_dim, attention.value_dim, attention.values_in_keys
    return Memory(
        source.name,
        held,
        max(together.values(), default=0),
        _scratch_of(config, batch + chunk, batch),
        heads * _core.kv_token_bytes(*channels, kv_dtype) * page_size * pages,
        heads * summary_bytes * pages,
    )


def _scratch_of(config: _core.ModelConfig, tokens: int, logit_rows: int) -> int:
    """About what a step of so many tokens works in: floats of the model's blocks, and logits."""
    attention = config.attention
    q = attention.kv_heads * attention.group * attention.head_dim
    widest = max(config.expert_width if config.experts else config.ffn_width, q)
    a_token = 3 * config.width + 3 * q + 3 * widest
    a_token += 2 * config.experts_per_token * config.width + config.experts
    return 4 * (tokens * a_token + logit_rows * config.vocabulary)


def size_of(count: int) -> str:
    """1.5 GiB."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
