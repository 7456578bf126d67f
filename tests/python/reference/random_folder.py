"""Tiny random models as Hugging Face folders, written with the safetensors library: config.json and weights in one file
or in shards."""

import json
from pathlib import Path

import numpy as np
from safetensors import serialize_file

SIZES = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
             vocab_size=160, max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=10000.0)  # fmt: skip
MOE = dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=32, norm_topk_prob=True)


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def e4m3_values() -> np.ndarray:
    """The value of every byte, from the definition: 1 + m/8 times 2^(e - 7), subnormals m/8 times 2^-6, NaN at the top."""
    byte = np.arange(256)
    sign, exponent, mantissa = 1 - 2.0 * (byte >> 7), byte >> 3 & 15, byte & 7
    value = np.where(exponent > 0, (1 + mantissa / 8) * 2.0 ** (exponent - 7), mantissa / 8 * 2.0**-6)
    return np.where(byte & 127 == 127, np.nan, sign * value)


def to_e4m3(values: np.ndarray) -> np.ndarray:
    """The nearest byte of each value."""
    table = e4m3_values()
    order = np.argsort(np.where(np.isnan(table), np.inf, table))[:254]
    order = order[np.concatenate([[True], np.diff(table[order]) > 0])]
    sorted_values = table[order]
    at = np.clip(np.searchsorted(sorted_values, values), 1, len(order) - 1)
    lower = values - sorted_values[at - 1] < sorted_values[at] - values
    return order[at - lower].astype(np.uint8)


def tensors_of(architecture: str, config: dict, seed: int) -> dict[str, np.ndarray]:
    """Random weights in float32 under their HF names."""
    rng = np.random.default_rng(seed)
    c, weights = config, {}

    def matrix(name: str, rows: int, columns: int) -> None:
        weights[name] = rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)

    def vector(name: str, size: int, mean: float = 1.0, deviation: float = 0.1) -> None:
        weights[name] = rng.normal(mean, deviation, size).astype(np.float32)

    width, dim = c["hidden_size"], c["head_dim"]
    q_width, kv_width = c["num_attention_heads"] * dim, c["num_key_value_heads"] * dim
    matrix("model.embed_tokens.weight", c["vocab_size"], width)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        vector(layer + "input_layernorm.weight", width)
        vector(layer + "post_attention_layernorm.weight", width)
        for name, size in {"q": q_width, "k": kv_width, "v": kv_width}.items():
            matrix(f"{layer}self_attn.{name}_proj.weight", size, width)
            if architecture == "qwen2":
                vector(f"{layer}self_attn.{name}_proj.bias", size, 0.0, 0.5)
        matrix(layer + "self_attn.o_proj.weight", width, q_width)
        if architecture.startswith("qwen3"):
            vector(layer + "self_attn.q_norm.weight", dim, deviation=0.3)
            vector(layer + "self_attn.k_norm.weight", dim, deviation=0.3)
        experts = c.get("num_experts", 0)
        if experts:
            weights[layer + "mlp.gate.weight"] = rng.normal(0, 3 * width**-0.5, (experts, width)).astype(np.float32)
        hidden = c["moe_intermediate_size"] if experts else c["intermediate_size"]
        for prefix in [f"{layer}mlp.experts.{e}." for e in range(experts)] or [layer + "mlp."]:
            matrix(prefix + "gate_proj.weight", hidden, width)
            matrix(prefix + "up_proj.weight", hidden, width)
            matrix(prefix + "down_proj.weight", width, hidden)
    vector("model.norm.weight", width)
    if not c["tie_word_embeddings"]:
        matrix("lm_head.weight", c["vocab_size"], width)
    return weights


def random_folder(
    folder: Path,
    architecture: str = "llama",
    *,
    format: str = "F32",
    seed: int = 0,
    tied: bool = False,
    shards: int = 0,
    block: tuple[int, int] | None = None,
    without: str = "",
    more: dict | None = None,
    extra: dict[str, np.ndarray] | None = None,
    **settings,
) -> Path:
    """format: F32, F16, BF16, or F8_E4M3 (the layers' linears, with scales of `block` or of the whole weight, the others
    in BF16). more: tensors in place of those written otherwise, as (dtype, array). extra: float32 tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = (
        {"model_type": architecture, **SIZES, "tie_word_embeddings": tied}
        | (MOE if architecture == "qwen3_moe" else {})
        | settings
    )
    if format == "F8_E4M3":
        config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic"}
        if block:
            config["quantization_config"]["weight_block_size"] = list(block)
    (folder / "config.json").write_text(json.dumps(config))
    stored: dict[str, tuple[str, np.ndarray]] = {}
    for name, values in (tensors_of(architecture, config, seed) | (extra or {})).items():
        if name == without:
            continue
        quantised = format == "F8_E4M3" and "_proj.weight" in name
        if quantised:
            rows, columns = block or values.shape
            scale = np.empty((-(-values.shape[0] // rows), -(-values.shape[1] // columns)), np.float32)
            bytes_ = np.empty(values.shape, np.uint8)
            for r, c in np.ndindex(*scale.shape):
                part = np.s_[r * rows : (r + 1) * rows, c * columns : (c + 1) * columns]
                scale[r, c] = np.abs(values[part]).max() / 448
                bytes_[part] = to_e4m3(values[part] / scale[r, c])
            stored[name] = ("F8_E4M3", bytes_)
            stored[name.removesuffix("weight") + "weight_scale_inv"] = ("F32", scale if block else scale.reshape(()))
        elif format == "F16":
            stored[name] = ("F16", values.astype(np.float16))
        elif format in ("BF16", "F8_E4M3"):
            stored[name] = ("BF16", bfloat16_bits(values))
        else:
            stored[name] = ("F32", values)
    stored |= more or {}
    names = list(stored)
    if not shards:
        write(folder / "model.safetensors", stored)
        return folder
    files = {
        name: f"model-{i * shards // len(names) + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(names)
    }
    for file in sorted(set(files.values())):
        write(folder / file, {name: stored[name] for name in names if files[name] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder


_TYPES = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "I32": "int32",
    "F64": "float64",
}


def write(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    from safetensors import TensorSpec

    kept = {name: np.ascontiguousarray(array) for name, (_, array) in tensors.items()}
    specs = {}
    for name, (kind, array) in tensors.items():
        data = kept[name]
        specs[name] = TensorSpec(dtype=_TYPES[kind], shape=array.shape, data_ptr=data.ctypes.data, data_len=data.nbytes)
    serialize_file(specs, path, metadata={"format": "np"})
