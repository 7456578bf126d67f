"""A DeepSeek-style model, whose tokens store one latent: absorbed decode against the float64 reference, which absorbs
nothing; flows that know nothing of it choose the reference's pages."""

import gguf
import numpy as np
import pytest
import vortex_attention as vx
from reference.deepseek import Config, DeepSeek, random_weights
from reference.learned import ready
from reference.llama import round_to_bfloat16
from reference.random_model import TYPES
from vortex_attention import _core, flows
from vortex_attention.models.hf_config import config_of

PROMPT, STEPS = 300, 12
PAGE, BUDGET, SINKS, RECENT = 16, 7, 1, 2
# Largest difference of a logit in units of the logits' standard deviation, as for the other architectures.
BOUND = {"f32": 0.004, "f16": 0.004, "bf16": 0.004, "q8_0": 0.2, "q4_1": 0.2}


def model_config(c: Config, architecture="deepseek_v2") -> _core.ModelConfig:
    config = _core.ModelConfig()
    config.architecture = architecture
    config.layers, config.width, config.ffn_width, config.vocabulary = c.layers, c.width, c.ffn_width, c.vocabulary
    config.heads = config.kv_heads = c.heads
    config.head_dim, config.qk_rope_dim, config.value_dim = c.nope + c.rope, c.rope, c.value
    config.kv_lora_rank, config.q_lora_rank = c.latent, c.q_rank
    config.context, config.rms_epsilon, config.rope_base = c.context, c.rms_epsilon, c.rope_base
    config.attention_scale = c.scale
    return config


def build(c: Config, seed=1, format="f32", architecture="deepseek_v2", change=None):
    """The model, and its weights as they are stored."""
    packed, stored = {}, {}
    weights = random_weights(c, seed)
    if change:
        change(weights)
    for name, values in weights.items():
        kind = TYPES["f32" if values.ndim == 1 else format]
        rows = values.reshape(1, -1) if values.ndim == 1 else values
        raw = gguf.quants.quantize(rows, kind)
        stored[name] = gguf.quants.dequantize(raw, kind).reshape(values.shape)
        raw = np.ascontiguousarray(raw).view(np.uint8).reshape(len(rows), -1)
        packed[name] = ("f32" if values.ndim == 1 else format, raw, rows.shape[1])
    return _core.make_model(model_config(c, architecture), packed, 2), stored


def tokens_of(c, count, seed):
    return [int(t) for t in np.random.default_rng(seed).integers(0, c.vocabulary, count)]


class Attention:
    """Full attention in float64 over the latents of one sequence, for Model.step."""

    def __init__(self, scale, latent, bfloat16=True):
        self.scale, self.latent, self.keys = scale, latent, {}
        self.store = round_to_bfloat16 if bfloat16 else lambda x: x

    def __call__(self, layer, q, k, v):
        assert v is None and k.shape[1] == 1
        keys = self.keys[layer] = np.concatenate([self.keys.get(layer, k[:0]), self.store(k)]).astype(float)
        logits = np.einsum("thd,sd->ths", q.astype(float), keys[:, 0]) * self.scale
        total, new = len(keys), len(q)
        visible = np.arange(total) <= np.arange(total - new, total)[:, None]
        logits = np.where(visible[:, None], logits, -np.inf)
        share = np.exp(logits - logits.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        return np.einsum("ths,sd->thd", share, keys[:, 0, : self.latent]).astype(np.float32)


@pytest.mark.parametrize("format", BOUND)
@pytest.mark.parametrize("architecture, q_rank", [("deepseek_v2", 0), ("deepseek_v3", 32)])
def test_logits_agree_with_the_reference(format, architecture, q_rank):
    c = Config(q_rank=q_rank, scale=0.2 if q_rank else 0.0)
    model, stored = build(c, seed=11, format=format, architecture=architecture)
    tokens = tokens_of(c, 40, 5)
    reference = DeepSeek(c, stored)
    expected = reference.forward(reference.cache(), tokens)
    rows = list(range(len(tokens)))
    got = model.step(tokens, rows, Attention(c.logit_scale, c.latent), rows, threads=2)
    error = np.abs(got - expected).max() / expected.std()
    print(f"{architecture} {format}: largest difference {error:.2g} deviations")
    assert got.shape == expected.shape and error < BOUND[format]


def test_float_weights_agree_to_float32_where_nothing_is_rounded():
    c = Config(q_rank=32)
    model, stored = build(c, seed=2)
    tokens = tokens_of(c, 64, 6)
    reference = DeepSeek(c, stored, kv_bfloat16=False)
    expected = reference.forward(reference.cache(), tokens)
    rows = list(range(len(tokens)))
    got = model.step(tokens, rows, Attention(c.logit_scale, c.latent, bfloat16=False), rows)
    assert np.abs(got - expected).max() / expected.std() < 2e-5


def test_what_attention_is_given():
    c = Config(scale=0.11)
    geometry = build(c)[0].config.attention
    assert (geometry.kv_heads, geometry.group, geometry.head_dim, geometry.value_dim) == (1, 4, 80, 64)
    assert geometry.values_in_keys and geometry.token_bytes == 160 and geometry.scale == pytest.approx(0.11)
    bench = _core.Workbench(build(c)[0], page_size=4, pages=64, max_batch=2, threads=1)
    bench.prefill([1])
    assert bench.kv_bytes == 64 * 4 * c.layers * 160, "one latent a token is stored, and no value beside it"


def test_the_engine_decodes_as_the_reference():
    c = Config()
    model, stored = build(c, seed=4)
    prompt, forced = tokens_of(c, PROMPT, 1), tokens_of(c, STEPS, 2)
    bench = _core.Workbench(model, page_size=4, pages=256, max_batch=4, threads=2)
    sequence, first = bench.prefill_with_logits(prompt)
    got = [first] + [bench.decode([sequence], [token])[0] for token in forced]
    reference = DeepSeek(c, stored)
    expected = reference.forward(reference.cache(), prompt + forced)[PROMPT - 1 :]
    assert np.abs(np.stack(got) - expected).max() / expected.std() < 0.01
    bench.check_integrity()


def share_over_pages(logits):  # [head, page]
    share = np.exp(logits - logits.max(-1, keepdims=True))
    return (share / share.sum(-1, keepdims=True)).sum(0)


def centroid(q, pages):  # q [head, dim], pages [page, token, dim]
    return share_over_pages(q @ round_to_bfloat16(pages.mean(1)).T)


def quest(q, pages):
    low, high = pages.min(1), pages.max(1)
    return share_over_pages(np.maximum(q[:, None] * low, q[:, None] * high).sum(-1))


@pytest.mark.parametrize("flow", [centroid, quest])
def test_flows_choose_and_attend_as_the_reference(flow):
    c = Config(q_rank=32)
    model, stored = build(c, seed=8)
    prompt, forced = tokens_of(c, PROMPT, 3), tokens_of(c, STEPS, 4)
    settings = {"budget": str(BUDGET), "sinks": str(SINKS), "recent": str(RECENT), "page_size": str(PAGE)}
    bench = _core.Workbench(model, page_size=16, pages=128, max_batch=4, threads=2)
    loaded = bench.load_flow(flows.ready(flow.__name__).with_settings(settings))
    base = bench.prefill(prompt)
    arm, full = bench.fork(base, loaded), bench.fork(base, -1)
    bench.record_pages(True)
    reference = DeepSeek(c, stored)
    cache = reference.cache()
    reference.forward(cache, prompt)
    left_out = 0

    def choose(layer, kv_head, q, keys):
        nonlocal left_out
        pages = -(-len(keys) // PAGE)
        pinned = set(range(SINKS)) | set(range(pages - RECENT, pages))
        candidates = [page for page in range(pages) if page not in pinned]
        scores = flow(q, keys[: len(keys) // PAGE * PAGE].reshape(-1, PAGE, keys.shape[1])[candidates])
        order = np.argsort(-scores, kind="stable")
        count = BUDGET - len(pinned)
        expected = sorted(pinned | {candidates[i] for i in order[:count]})
        chosen = bench.page_list(arm, layer, kv_head)
        gap = (scores[order[count - 1]] - scores[order[count]]) / scores.max()
        assert chosen == expected or gap < 1e-3, (layer, gap)
        left_out += len(candidates) - count
        return chosen

    different = 0.0
    for token in forced:
        got = bench.decode([arm], [token])[0]
        expected = reference.forward(cache, [token], choose, PAGE)[0]
        assert np.abs(got - expected).max() / expected.std() < 0.01
        different = max(different, np.abs(got - bench.decode([full], [token])[0]).max() / expected.std())
    assert left_out > 0 and different > 0.02, "and full attention must differ"


def test_every_ready_flow_runs_and_covers_bit_for_bit():
    c = Config()
    model, _ = build(c)
    bench = _core.Workbench(model, page_size=4, pages=512, max_batch=4, threads=2)
    base = bench.prefill(tokens_of(c, PROMPT, 1))
    for name in flows.names():
        for budget, same in (("100000", True), ("4", False)):
            flow = bench.load_flow(
                ready(name, 80).with_settings({"budget": budget, "page_size": "16", "sinks": "1", "recent": "2"})
            )
            arms = [bench.fork(base, -1), bench.fork(base, flow)]
            for token in tokens_of(c, 5, 2):
                logits = bench.decode(arms, [token, token])
            assert np.array_equal(logits[0], logits[1]) == same, (name, budget)
            for arm in arms:
                bench.release(arm)
            bench.unload_flow(flow)


HF = {
    "model_type": "deepseek_v2", "num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 160,
    "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
    "kv_lora_rank": 64, "q_lora_rank": None, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
}  # fmt: skip


def test_configs_of_folders():
    plain = config_of(HF, "config.json")
    expected = model_config(Config())
    for name in (name for name in dir(expected) if not name.startswith("_")):
        if not callable(getattr(expected, name)) and name != "attention":
            assert getattr(plain, name) == getattr(expected, name), name
    names = {weight[0]: tuple(weight[1:3]) for weight in _core.required_weights(plain)}
    shapes = {name: (1, *w.shape)[-2:] for name, w in random_weights(Config(), 1).items()}
    assert names == shapes
    scaling = {"type": "yarn", "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707, "beta_fast": 32, "beta_slow": 1,
               "original_max_position_embeddings": 4096}  # fmt: skip
    yarn = config_of({**HF, "rope_scaling": scaling}, "config.json")
    stretch = 0.1 * 0.707 * np.log(40) + 1
    assert yarn.attention.scale == pytest.approx(stretch**2 / 48**0.5, rel=1e-6)
    assert yarn.rope_magnitude == 1 and len(yarn.rope_divisors) == 8
    with pytest.raises(vx.UserError, match=r"n_routed_experts = 0; got 64; this variant is not implemented"):
        config_of({**HF, "n_routed_experts": 64, "first_k_dense_replace": 1}, "config.json")
    assert config_of({**HF, "n_routed_experts": 64, "first_k_dense_replace": 3}, "config.json").experts == 0
    with pytest.raises(vx.UserError, match=r"the setting kv_lora_rank; the file has none"):
        config_of({**HF, "kv_lora_rank": None}, "config.json")


def test_refusals():
    c = Config()

    def refused(**settings):
        config = model_config(c)
        for name, value in settings.items():
            setattr(config, name, value)
        with pytest.raises(vx.UserError) as caught:
            _core.make_model(config, {})
        return str(caught.value)

    assert "kv_lora_rank of at least 2 for deepseek_v2; got 0" in refused(kv_lora_rank=0)
    assert "kv_lora_rank that is even; got kv_lora_rank = 63" in refused(kv_lora_rank=63)
    assert "qk_rope_dim from 1 to 47; got qk_rope_dim = 48" in refused(qk_rope_dim=48)
    assert "qk_rope_dim that is even; got qk_rope_dim = 15" in refused(qk_rope_dim=15)
    assert "value_dim from 1 to 16384; got value_dim = 0" in refused(value_dim=0)
    assert "q_lora_rank from 0 to 1048576; got q_lora_rank = -1" in refused(q_lora_rank=-1)
    assert "attention_scale of at least 0; got attention_scale = -1" in refused(attention_scale=-1.0)
    assert "deepseek_v2 without experts; got experts = 4" in refused(experts=4, experts_per_token=2, expert_width=32)
    with pytest.raises(
        vx.UserError, match=r"the weight model.layers.1.self_attn.kv_b_proj.weight of shape \[256, 64\]"
    ):
        build(c, change=lambda w: w.pop("model.layers.1.self_attn.kv_b_proj.weight"))
    with pytest.raises(vx.UserError, match="that it does not: model.layers.0.self_attn.q_a_proj.weight"):
        build(c, change=lambda w: w.update({"model.layers.0.self_attn.q_a_proj.weight": np.zeros((8, 64), np.float32)}))
    model, _ = build(Config(latent=1024))
    with pytest.raises(vx.UserError, match=r"keys of at most 1024 channels .*; 1040 channels, 4 query and 1 KV heads"):
        _core.Workbench(model)
