"""A model in a GGUF file: its ModelConfig and its weights under their HF names, channels in HF order.

Refuses what would silently change results: partial rotation, unknown kinds of scaled RoPE, settings that differ by
layer. A
tensor whose name is not known here is passed on under its own name, and the model refuses it.
"""

import functools
import hashlib
import os
import re

import numpy as np

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.models import rope
from vortex_attention.models.gguf_file import GgufFile, Tensor
from vortex_attention.models.source import Source
from vortex_attention.models.tokenizer import GgufTokenizer, Tokenizer
from vortex_attention.models.weights import Weight

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate_inp": "mlp.gate",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# One tensor for all experts of a layer: experts lie one after the other.
_EXPERTS = {"ffn_gate_exps": "gate_proj", "ffn_up_exps": "up_proj", "ffn_down_exps": "down_proj"}
_ROPE_DIVISORS = "rope_freqs.weight"
# The architectures as the format spells them, and as we do.
_ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3moe": "qwen3_moe"}
# Architectures whose q and k rows the file format stores with the two halves of each head interleaved.
_INTERLEAVED = {"llama"}


class GgufSource(Source):
    def __init__(self, path: str, name: str = ""):
        self.path = path
        self.file = GgufFile(path)
        self.where = self.file.where
        self.name = name or os.path.basename(path)
        self.config = config_of(self.file)

    def weights(self) -> dict[str, Weight]:
        return weights_of(self.file, self.config)

    def tokenizer(self) -> Tokenizer:
        return GgufTokenizer(self.file)

    def chat_template(self) -> str | None:
        template = self.file.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    def sha256(self) -> str:
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def config_of(file: GgufFile) -> _core.ModelConfig:
    architecture = file.get("general.architecture", str)
    known = list(_ARCHITECTURES)
    if architecture not in known:
        near = _core.nearest_name(architecture, known)
        raise UserError(
            file.where,
            f"one of the architectures {', '.join(known)}",
            f"got {architecture!r}",
            f"did you mean {near}?" if near else "use another model",
        )

    def setting(name: str, kind: type, default=None):
        return file.get(f"{architecture}.{name}", kind, default)

    config = _core.ModelConfig()
    config.architecture = _ARCHITECTURES[architecture]
    try:
        config.layers = setting("block_count", int)
        config.width = setting("embedding_length", int)
        config.ffn_width = setting("feed_forward_length", int)
        config.heads = setting("attention.head_count", int)
        config.kv_heads = setting("attention.head_count_kv", int, config.heads)
        config.head_dim = setting("attention.key_length", int, config.width // max(config.heads, 1))
        config.context = setting("context_length", int)
        config.vocabulary = file.tensors["token_embd.weight"].rows if "token_embd.weight" in file.tensors else 0
        config.rms_epsilon = setting("attention.layer_norm_rms_epsilon", float)
        config.rope_base = setting("rope.freq_base", float, 10000.0)
        if architecture == "qwen3moe":
            config.experts = setting("expert_count", int)
            config.experts_per_token = setting("expert_used_count", int)
            config.expert_width = setting("expert_feed_forward_length", int)
    except (OverflowError, TypeError):  # a number beyond what the config holds
        raise UserError(
            file.where,
            "sizes of a model that exists",
            "got a number beyond 64 bits",
            "the file is damaged, fetch it again",
        ) from None
    config.tied_embeddings = "output.weight" not in file.tensors
    if not config.vocabulary:
        raise UserError(
            file.where, "the tensor token_embd.weight", "the file has none", "use a complete GGUF model file"
        )
    config.validate()

    def only(name: str, wanted, came) -> None:
        if came != wanted:
            raise UserError(
                file.where,
                f"{architecture}.{name} = {wanted}",
                f"got {came}",
                "this variant is not implemented, use another model",
            )

    only("rope.dimension_count", config.head_dim, setting("rope.dimension_count", int, config.head_dim))
    only("attention.value_length", config.head_dim, setting("attention.value_length", int, config.head_dim))
    if config.experts == 0:
        only("expert_count", 0, setting("expert_count", int, 0))
    scaled = _rope_of(file, config, setting)
    config.rope_divisors, config.rope_magnitude = list(scaled.divisors), scaled.magnitude
    config.validate()
    return config


def _rope_of(file: GgufFile, config: _core.ModelConfig, setting) -> rope.Rope:
    """From the settings, or from a tensor of divisors, which is how the format stores Llama 3's scaling."""
    kind, dim, kinds = setting("rope.scaling.type", str, "none"), config.head_dim, ("none", "linear", "yarn")
    if kind not in kinds:
        raise UserError(
            file.where,
            f"rope.scaling.type to be one of {', '.join(kinds)}",
            f"got {kind}",
            "this variant is not implemented, use another model",
        )
    tensor = file.tensors.get(_ROPE_DIVISORS)
    if tensor is not None:
        if kind != "none" or tensor.format != "f32" or (tensor.rows, tensor.columns) != (1, dim // 2):
            raise UserError(
                file.where,
                f"{_ROPE_DIVISORS} to be {dim // 2} numbers in f32, beside no other scaling of RoPE",
                f"got [{tensor.rows}, {tensor.columns}] in {tensor.format} and rope.scaling.type {kind}",
                "the file is damaged, fetch it again",
            )
        return rope.Rope(tuple(tensor.data.reshape(-1).view("<f4").tolist()))
    if kind == "none":
        return rope.Rope()
    factor = setting("rope.scaling.factor", float)
    rope.check(file.where, **{"rope.scaling.factor": factor})
    if kind == "linear":
        return rope.linear(dim, factor)
    original = setting("rope.scaling.original_context_length", int, config.context)
    fast, slow = setting("rope.scaling.yarn_beta_fast", float, 32.0), setting("rope.scaling.yarn_beta_slow", float, 1.0)
    rope.check(
        file.where,
        original_context_length=original,
        beta_fast=fast,
        beta_slow=slow,
        **{"freq_base - 1": config.rope_base - 1},
    )
    return rope.yarn(dim, config.rope_base, factor, original, fast, slow)


def hf_name(name: str) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight; a name that is not known stays."""
    if match := re.fullmatch(r"blk\.(\d{1,9})\.(\w+)\.(weight|bias)", name):
        layer, part, kind = match.groups()
        return f"model.layers.{int(layer)}.{_LAYER[part]}.{kind}" if part in _LAYER else name
    stem, _, kind = name.rpartition(".")
    return f"{_TOP[stem]}.{kind}" if stem in _TOP else name


def weights_of(file: GgufFile, config: _core.ModelConfig) -> dict[str, Weight]:
    weights = {}
    for tensor in file.tensors.values():
        if tensor.name == _ROPE_DIVISORS:  # the config has them
            continue
        if experts := re.fullmatch(r"blk\.(\d{1,9})\.(\w+)\.weight", tensor.name):
            layer, part = experts.groups()
            if part in _EXPERTS and config.experts and tensor.rows % config.experts == 0:
                rows = tensor.rows // config.experts
                for i in range(config.experts):
                    name = f"model.layers.{int(layer)}.mlp.experts.{i}.{_EXPERTS[part]}.weight"
                    read = functools.partial(_rows, tensor, i * rows, rows)
                    weights[name] = Weight(tensor.format, rows, tensor.columns, read)
                continue
        interleaved = config.architecture in _INTERLEAVED and re.fullmatch(r"blk\.\d+\.attn_[qk]\.weight", tensor.name)
        read = (
            functools.partial(_halves, tensor, config.head_dim)
            if interleaved
            else functools.partial(_rows, tensor, 0, tensor.rows)
        )
        weights[hf_name(tensor.name)] = Weight(tensor.format, tensor.rows, tensor.columns, read, mapped=not interleaved)
    return weights


def _rows(tensor: Tensor, first: int, count: int) -> np.ndarray:
    return tensor.data[first : first + count]


def _halves(tensor: Tensor, dim: int) -> np.ndarray:
    """Rows (head, i, half) to rows (head, half, i): whole rows move, so any row-wise quantisation stays exact."""
    if tensor.rows % dim:
        return tensor.data  # misshapen: the model says so, by name
    return np.ascontiguousarray(tensor.data.reshape(-1, dim // 2, 2, tensor.data.shape[1]).swapaxes(1, 2)).reshape(
        tensor.data.shape
    )
