"""A Hugging Face config.json to a ModelConfig. Refuses what would silently change results: kinds of scaled RoPE, of
activation and of attention that are not implemented."""

import math

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.models import rope
from vortex_attention.formats.json_file import Settings


def _llama(settings: Settings, config: _core.ModelConfig) -> None:
    settings.only("attention_bias", False, False)
    settings.only("mlp_bias", False, False)
    settings.only("partial_rotary_factor", 1, 1)


def _qwen(settings: Settings, config: _core.ModelConfig) -> None:
    settings.only("attention_bias", False, False)
    settings.only("use_sliding_window", False, False)


def _qwen2(settings: Settings, config: _core.ModelConfig) -> None:
    settings.only("use_sliding_window", False, False)


def _qwen3_moe(settings: Settings, config: _core.ModelConfig) -> None:
    _qwen(settings, config)
    settings.only("decoder_sparse_step", 1, 1)
    settings.only("mlp_only_layers", [], [])
    config.experts = settings.get("num_experts", int)
    config.experts_per_token = settings.get("num_experts_per_tok", int)
    config.expert_width = settings.get("moe_intermediate_size", int)
    config.normalise_experts = settings.get("norm_topk_prob", bool, False)


def _deepseek(settings: Settings, config: _core.ModelConfig) -> None:
    settings.only("attention_bias", False, False)
    settings.only("rope_interleave", True, True)
    if settings.has("n_routed_experts") and settings.get("first_k_dense_replace", int, 0) < config.layers:
        settings.only("n_routed_experts", 0, 0)
    config.kv_lora_rank = settings.get("kv_lora_rank", int)
    config.q_lora_rank = settings.get("q_lora_rank", int, 0)
    config.qk_rope_dim = settings.get("qk_rope_head_dim", int)
    config.head_dim = settings.get("qk_nope_head_dim", int) + config.qk_rope_dim
    config.value_dim = settings.get("v_head_dim", int)
    config.kv_heads = config.heads


# By model_type: what an architecture has besides what all have.
_MORE = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen,
    "qwen3_moe": _qwen3_moe,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
}


def config_of(values: dict, where: str) -> _core.ModelConfig:
    settings = Settings(values, where)
    architecture = settings.get("model_type", str)
    if architecture not in _MORE:
        near = _core.nearest_name(architecture, list(_MORE))
        raise UserError(
            where,
            f"one of the architectures {', '.join(_MORE)}",
            f"got model_type {architecture!r}",
            f"did you mean {near}?" if near else "use another model",
        )
    config = _core.ModelConfig()
    config.architecture = architecture
    try:
        config.layers = settings.get("num_hidden_layers", int)
        config.width = settings.get("hidden_size", int)
        config.ffn_width = settings.get("intermediate_size", int)
        config.heads = settings.get("num_attention_heads", int)
        config.kv_heads = settings.get("num_key_value_heads", int, config.heads)
        config.head_dim = settings.get("head_dim", int, config.width // max(config.heads, 1))
        config.context = settings.get("max_position_embeddings", int)
        config.vocabulary = settings.get("vocab_size", int)
        config.rms_epsilon = settings.get("rms_norm_eps", float, 1e-6)
        config.tied_embeddings = settings.get("tie_word_embeddings", bool, False)
        _MORE[architecture](settings, config)
        config.validate()
        _set_rope(settings, config)
        config.validate()
    except (ArithmeticError, TypeError):  # numbers beyond what the config holds, or that formulas cannot take
        raise UserError(
            where, "sizes of a model that exists", "got numbers that cannot be", "the file is damaged, fetch it again"
        ) from None
    settings.only("hidden_act", "silu", "silu")
    if any(kind != "full_attention" for kind in settings.get("layer_types", list, [])):
        raise UserError(
            where,
            "layer_types of full_attention alone",
            f"got {settings.values['layer_types'][:4]}",
            "this variant is not implemented, use another model",
        )
    return config


def _set_rope(settings: Settings, config: _core.ModelConfig) -> None:
    """From rope_theta and rope_scaling, or from rope_parameters, which newer files have in place of both."""
    name = "rope_parameters" if settings.has("rope_parameters") else "rope_scaling"
    scaling = settings.part(name) if settings.has(name) else Settings({}, settings.where)
    base = scaling.get("rope_theta", float, settings.get("rope_theta", float, 10000.0))
    rope.check(settings.where, rope_theta=base)
    config.rope_base = base
    config.validate()
    kind = scaling.get("rope_type", str, scaling.get("type", str, "default"))
    if kind == "default":
        return
    kinds = ("default", "linear", "llama3", "yarn")
    if kind not in kinds:
        raise UserError(
            settings.where,
            f"{name}.rope_type to be one of {', '.join(kinds)}",
            f"got {kind!r}",
            "this variant is not implemented, use another model",
        )
    dim, context = config.qk_rope_dim or config.head_dim, config.context
    original = scaling.get("original_max_position_embeddings", int, context)
    factor = scaling.get("factor", float, context / original if original > 0 else 0.0)
    rope.check(settings.where, factor=factor, original_max_position_embeddings=original)
    if kind == "linear":
        scaled = rope.linear(dim, factor)
    elif kind == "llama3":
        low, high = scaling.get("low_freq_factor", float), scaling.get("high_freq_factor", float)
        rope.check(settings.where, **{"low_freq_factor": low, "high_freq_factor - low_freq_factor": high - low})
        scaled = rope.llama3(dim, base, factor, low, high, original)
    else:
        fast, slow = scaling.get("beta_fast", float, 32.0), scaling.get("beta_slow", float, 1.0)
        magnitude = scaling.get("attention_factor", float, _yarn_magnitude(scaling, factor))
        rope.check(
            settings.where, beta_fast=fast, beta_slow=slow, attention_factor=magnitude, **{"rope_theta - 1": base - 1}
        )
        scaled = rope.yarn(dim, base, factor, original, fast, slow, magnitude)
        config.context = max(context, math.floor(min(original * factor, 1 << 30)))
        if config.kv_lora_rank and scaling.has("mscale_all_dim"):  # DeepSeek scales the logits too
            stretch = rope.yarn_magnitude(factor, scaling.get("mscale_all_dim", float))
            rope.check(settings.where, mscale_all_dim=stretch)
            config.attention_scale = stretch * stretch / math.sqrt(config.head_dim)
    config.rope_divisors, config.rope_magnitude = list(scaled.divisors), scaled.magnitude


def _yarn_magnitude(scaling: Settings, factor: float) -> float:
    if scaling.has("mscale") and scaling.has("mscale_all_dim"):
        over, under = scaling.get("mscale", float), scaling.get("mscale_all_dim", float)
        if over and under:
            return rope.yarn_magnitude(factor, over) / rope.yarn_magnitude(factor, under)
    return rope.yarn_magnitude(factor)
