"""Models from Hugging Face folders: their logits against the float64 reference, and every way a folder can be wrong."""

import json
import shutil

import numpy as np
import pytest
import vortex_attention as vx
from reference.llama import Llama
from reference.random_folder import MOE, e4m3_values, random_folder, write
from test_model import Attention
from vortex_attention import _core
from vortex_attention.models import open_source
from vortex_attention.models.weights import Weights

LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)


def model_of(folder, threads: int = 2) -> _core.Model:
    source = open_source(folder)
    return _core.make_model(source.config, Weights(source.weights()), threads)


def difference(folder, count: int = 40, bfloat16: bool = True, fp8_to_bfloat16: bool = True) -> float:
    """The largest difference of a logit from the reference's, in units of their deviation."""
    model, reference = model_of(folder), Llama.from_folder(folder, fp8_to_bfloat16, kv_bfloat16=bfloat16)
    tokens = np.random.default_rng(5).integers(0, model.config.vocabulary, count)
    (expected,) = reference.forward([(reference.cache(), tokens)])
    got = model.step(tokens, range(count), Attention(model.config, tokens, bfloat16), range(count), threads=2)
    assert got.shape == expected.shape
    return np.abs(got - expected).max() / expected.std()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "qwen3_moe"])
@pytest.mark.parametrize("format", ["F32", "F16", "BF16", "F8_E4M3"])
def test_logits_agree_with_the_reference(tmp_path, architecture, format):
    folder = random_folder(tmp_path / "m", architecture, format=format, seed=3, block=(48, 32))
    error = difference(folder)
    print(f"{architecture} {format}: largest difference {error:.2g} deviations")
    assert error < 0.004


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "qwen3_moe"])
def test_float_weights_agree_to_float32_where_nothing_is_rounded(tmp_path, architecture):
    error = difference(random_folder(tmp_path / "m", architecture, seed=8), count=64, bfloat16=False)
    print(f"{architecture}: largest difference {error:.2g} deviations")
    assert error < 2e-5


@pytest.mark.parametrize(
    "scaling", [dict(rope_type="linear", factor=4.0), LLAMA3, YARN], ids=lambda it: it["rope_type"]
)
def test_scaled_rope(tmp_path, scaling):
    folder = random_folder(tmp_path / "m", seed=4, rope_scaling=scaling)
    assert difference(folder, count=128, bfloat16=False) < 2e-5
    new = json.loads((folder / "config.json").read_text())
    new["rope_parameters"] = new.pop("rope_scaling") | {"rope_theta": new.pop("rope_theta")}
    again = open_source(random_folder(tmp_path / "n", **{"rope_theta": 7.0}, rope_parameters=new["rope_parameters"]))
    assert again.config.rope_divisors == open_source(folder).config.rope_divisors
    assert again.config.rope_base == 10000 and min(again.config.rope_divisors) >= 1
    assert again.config.context == 512


def test_yarn_says_how_long_a_context_it_makes(tmp_path):
    folder = random_folder(tmp_path / "m", rope_scaling=YARN | {"original_max_position_embeddings": 256})
    assert open_source(folder).config.context == 1024


def test_experts_that_are_not_normalised(tmp_path):
    assert difference(random_folder(tmp_path / "m", "qwen3_moe", seed=8, norm_topk_prob=False), bfloat16=False) < 2e-5


@pytest.mark.parametrize("block", [None, (128, 128), (7, 64)])
def test_fp8_scales_of_the_weight_and_of_blocks(tmp_path, block):
    """Exactly what it says here: a weight times its scale rounds to bfloat16, by at most 2^-9 of it; what that costs."""
    folder = random_folder(tmp_path / "m", format="F8_E4M3", seed=3, block=block)
    assert difference(folder) < 0.004
    cost = difference(folder, fp8_to_bfloat16=False)
    print(f"rounding to bfloat16: {cost:.2g} deviations")
    assert 0.004 < cost < 0.1


def test_every_fp8_value_times_its_scale():
    values, rng = e4m3_values(), np.random.default_rng(2)
    data = rng.permutation(256).astype(np.uint8).repeat(3).reshape(24, 32)
    scales = rng.uniform(0.01, 2, (5, 4)).astype(np.float32)
    got = _core.fp8_rows(data, scales, 5, 10).view(np.uint16).astype(np.uint32) << 16
    exact = values[data] * np.kron(scales, np.ones((5, 10)))[:24, :32]
    assert np.isnan(exact).sum() == 6
    np.testing.assert_allclose(got.view(np.float32), exact, rtol=2**-8)
    with pytest.raises(vx.UserError, match=r"\[fp8\] scales \[3, 4\] for blocks of \[10, 10\]; got \[5, 4\]"):
        _core.fp8_rows(data, scales, 10, 10)


def test_scales_of_rows(tmp_path):
    rows = np.random.default_rng(1).uniform(0.5, 2, 128).astype(np.float32)
    stored = np.random.default_rng(2).integers(0, 100, (128, 64)).astype(np.uint8)
    name = "model.layers.0.self_attn.q_proj.weight"
    more = {
        name: ("F8_E4M3", stored),
        f"{name}_scale": ("F32", rows.reshape(128, 1)),
        f"{name[:-7]}.input_scale": ("F32", rows[:1]),
    }
    weights = open_source(random_folder(tmp_path / "m", more=more)).weights()
    assert not any("scale" in key for key in weights)
    got = (weights[name].read().view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(got, e4m3_values()[stored] * rows[:, None], rtol=2**-8)


def test_shards_are_one_model(tmp_path):
    whole = model_of(random_folder(tmp_path / "whole", format="BF16", seed=2))
    parts = model_of(random_folder(tmp_path / "parts", format="BF16", seed=2, shards=3))
    zeros = lambda layer, q, k, v: np.zeros_like(q)  # noqa: E731
    assert np.array_equal(whole.step([1, 2], [0, 1], zeros, [0, 1]), parts.step([1, 2], [0, 1], zeros, [0, 1]))
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) == 3


def test_a_folder_and_a_gguf_file_are_one_model(tmp_path):
    """The channels of q and k are in Hugging Face order for both."""
    import gguf
    from vortex_attention.models.gguf_source import _LAYER, _TOP

    folder = random_folder(tmp_path / "m", seed=6)
    source = open_source(folder)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    config = source.config
    writer.add_block_count(config.layers), writer.add_context_length(config.context)
    writer.add_embedding_length(config.width), writer.add_feed_forward_length(config.ffn_width)
    (
        writer.add_head_count(config.heads),
        writer.add_head_count_kv(config.kv_heads),
        writer.add_key_length(config.head_dim),
    )
    writer.add_rope_freq_base(config.rope_base), writer.add_layer_norm_rms_eps(config.rms_epsilon)
    names = {ours: theirs for theirs, ours in (_TOP | _LAYER).items()}
    for name, weight in source.weights().items():
        values = weight.read().view(np.float32).reshape(weight.rows, weight.columns)
        stem, layer = name.removesuffix(".weight"), ""
        if stem.startswith("model.layers."):
            _, _, index, stem = stem.split(".", 3)
            layer = f"blk.{index}."
        if stem in ("self_attn.q_proj", "self_attn.k_proj"):  # as the format wants them
            values = values.reshape(-1, 2, config.head_dim // 2, weight.columns).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(f"{layer}{names[stem]}.weight", values if weight.rows > 1 else values[0])
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    other = open_source(tmp_path / "m.gguf")
    again = _core.make_model(other.config, Weights(other.weights()), 2)
    seen = []
    attend = lambda layer, q, k, v: (seen.append(k), np.zeros_like(q))[1]  # noqa: E731
    first, second = (model.step([3, 4, 5], [0, 1, 2], attend, [2]) for model in (model_of(folder), again))
    assert np.array_equal(first, second)
    assert len(seen) == 4 and all(np.array_equal(seen[i], seen[i + 2]) for i in range(2))


def refusal(folder) -> str:
    with pytest.raises(vx.VortexError) as caught:
        model_of(folder)
    assert isinstance(caught.value, vx.UserError), caught.value
    return str(caught.value)


def with_config(tmp_path, architecture="llama", **settings) -> str:
    folder = tmp_path / "m"
    shutil.rmtree(folder, ignore_errors=True)
    random_folder(folder, architecture)
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))
    return refusal(folder)


def test_what_a_config_must_say(tmp_path):
    words = with_config(tmp_path, model_type="lama")
    assert words.startswith("[m/config.json] one of the architectures llama, qwen2, qwen3, qwen3_moe")
    assert words.endswith("; got model_type 'lama'; did you mean llama?")
    for setting, kind in {
        "num_hidden_layers": "a whole number",
        "rms_norm_eps": "a number",
        "tie_word_embeddings": "true or false",
    }.items():
        assert f"the setting {setting} to be {kind}; got a text" in with_config(tmp_path, **{setting: "two"})
    assert "the setting hidden_size; the file has none; use a complete model folder" in with_config(
        tmp_path, hidden_size="absent"
    )
    assert "the setting hidden_size to be a whole number; got a number" in with_config(tmp_path, hidden_size=64.5)
    assert "the setting hidden_size to be a whole number; got true or false" in with_config(tmp_path, hidden_size=True)
    assert "layers from 1 to 4096; got layers = 0" in with_config(tmp_path, num_hidden_layers=0)
    assert "width from 1 to 1048576; got width = -64" in with_config(tmp_path, hidden_size=-64)
    assert "vocabulary from 1 to 16777216; got vocabulary = 4611686018427387904" in with_config(
        tmp_path, vocab_size=1 << 62
    )
    assert "sizes of a model that exists; got numbers that cannot be" in with_config(tmp_path, vocab_size=1 << 70)
    assert "embed_tokens.weight of shape [16000000, 64]; got shape [160, 64]" in with_config(
        tmp_path, vocab_size=16_000_000
    )
    assert "kv_heads that divides heads; got kv_heads = 3" in with_config(tmp_path, num_key_value_heads=3)
    assert "rope_theta of RoPE above 0 and below 1e12; got inf" in with_config(tmp_path, rope_theta=1e999)


@pytest.mark.parametrize(
    "architecture, settings, words",
    [
        ("llama", dict(hidden_act="gelu"), "hidden_act = silu; got gelu; this variant is not implemented, use another model"),
        ("llama", dict(attention_bias=True), "attention_bias = False; got True"),
        ("llama", dict(mlp_bias=True), "mlp_bias = False; got True"),
        ("llama", dict(partial_rotary_factor=0.5), "partial_rotary_factor = 1; got 0.5"),
        ("qwen2", dict(use_sliding_window=True), "use_sliding_window = False; got True"),
        ("qwen3", dict(layer_types=["full_attention", "sliding_attention"]), "layer_types of full_attention alone; got ['full_attention', 'sliding_attention']"),
        ("qwen3_moe", dict(decoder_sparse_step=2), "decoder_sparse_step = 1; got 2"),
        ("qwen3_moe", dict(mlp_only_layers=[0]), "mlp_only_layers = []; got [0]"),
        ("qwen3_moe", dict(num_experts="absent"), "the setting num_experts; the file has none"),
        ("qwen3_moe", dict(num_experts_per_tok=9), "experts_per_token from 1 to 8; got experts_per_token = 9"),
        ("llama", dict(rope_scaling=dict(rope_type="dynamic")), "rope_scaling.rope_type to be one of default, linear, llama3, yarn; got 'dynamic'"),
        ("llama", dict(rope_scaling=dict(type="linear", factor=0)), "factor of RoPE above 0 and below 1e12; got 0"),
        ("llama", dict(rope_scaling=LLAMA3 | dict(high_freq_factor=1.0)), "high_freq_factor - low_freq_factor of RoPE above 0"),
        ("llama", dict(rope_scaling=YARN | dict(beta_fast=0)), "beta_fast of RoPE above 0"),
        ("llama", dict(rope_scaling=YARN, rope_theta=1), "rope_theta - 1 of RoPE above 0"),
        ("llama", dict(rope_scaling=YARN | dict(mscale=1.0, mscale_all_dim=-10 / np.log(4))), "sizes of a model that exists; got numbers that cannot be"),
        ("llama", dict(rope_scaling="llama3"), "the setting rope_scaling to be an object; got a text"),
        ("llama", dict(quantization_config=dict(quant_method="awq")), "quantization_config.quant_method = fp8; got awq"),
        ("llama", dict(quantization_config=dict(quant_method="fp8", weight_block_size=[0, 4])), "weight_block_size of two sizes above 0; got [0, 4]"),
    ],
)  # fmt: skip
def test_variants_that_would_change_results_are_refused(tmp_path, architecture, settings, words):
    assert words in with_config(tmp_path, architecture, **settings)


def test_configs_that_are_no_configs(tmp_path):
    folder = random_folder(tmp_path / "m")
    for text, words in {
        b"": "[config.json] JSON; Expecting value",
        b'{"model_type": "lla': "[config.json] JSON; Unterminated string",
        b"\xff\xfe\x00": "[config.json] JSON; ",
        b"[" * 100_000: "[config.json] JSON; it is nested too deeply",
        b"[1]": "[config.json] a JSON object; got a list",
        b'{"a": 1, "a": 2}': "[config.json] each key once; 'a' comes twice",
        b'{"a": ' + b"9" * 5000 + b"}": "[config.json] JSON; Exceeds the limit",
    }.items():
        (folder / "config.json").write_bytes(text)
        assert words in refusal(folder)
    (folder / "config.json").unlink()
    assert refusal(folder).startswith("[m] a folder with a config.json; it has none")


def test_weights_that_are_not_there(tmp_path):
    folder = random_folder(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refusal(folder) == (
        "[m] a folder with model.safetensors or model.safetensors.index.json; it has pytorch_model.bin; fetch the "
        "safetensors files, or use --load-format dummy"
    )
    (folder / "pytorch_model.bin").unlink()
    assert "; it has no weights; " in refusal(folder)


@pytest.mark.parametrize(
    "tensor", ["model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight", "lm_head.weight"]
)
def test_missing_tensors_are_named(tmp_path, tensor):
    words = refusal(random_folder(tmp_path / "m", without=tensor))
    assert words.startswith(f"[model] the weight {tensor} of shape [") and "no such weight among the 20 given" in words


def test_tensors_that_do_not_belong(tmp_path):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(16, np.float32)}
    model_of(random_folder(tmp_path / "m", extra=extra))  # follows from the config
    extra["model.layers.0.self_attn.q_norm.weight"] = np.ones(32, np.float32)
    assert "got 1 that it does not: model.layers.0.self_attn.q_norm.weight" in refusal(
        random_folder(tmp_path / "x", extra=extra)
    )
    name = "model.layers.0.mlp.up_proj.weight"
    wrong = random_folder(tmp_path / "s", more={name: ("F32", np.zeros((64, 96), np.float32))})
    assert f"[model] the weight {name} of shape [96, 64]; got shape [64, 96]" in refusal(wrong)
    wrong = random_folder(tmp_path / "d", more={name: ("F32", np.zeros((2, 48, 64), np.float32))})
    assert refusal(wrong).startswith(f"[model.safetensors] one or two dimensions above 0 for {name}; got [2, 48, 64]")
    wrong = random_folder(tmp_path / "z", more={name: ("F32", np.zeros((96, 0), np.float32))})
    assert f"one or two dimensions above 0 for {name}; got [96, 0]" in refusal(wrong)
    wrong = random_folder(tmp_path / "i", more={name: ("I32", np.zeros((96, 64), np.int32))})
    assert f"weights in one of F32, F16, BF16, F8_E4M3; {name} is in I32; convert the model" in refusal(wrong)


def test_fp8_scales_that_do_not_fit(tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    make = lambda folder, scale, **more: refusal(  # noqa: E731
        random_folder(
            tmp_path / folder,
            format="F8_E4M3",
            more={f"{name}_scale_inv": ("F32", np.asarray(scale, np.float32))},
            **more,
        )
    )
    assert f"{name}_scale_inv of shape [3, 2] for blocks of [32, 32]; got [2, 3]" in make(
        "a", np.ones((2, 3)), block=(32, 32)
    )
    assert f"{name}_scale_inv of shape [1], as the config gives no weight_block_size; got [3, 2]" in make(
        "b", np.ones((3, 2))
    )
    assert f"finite numbers in {name}_scale_inv; got others" in make("c", np.inf)
    words = refusal(random_folder(tmp_path / "d", more={name: ("F8_E4M3", np.zeros((96, 64), np.uint8))}))
    stem = name.removesuffix("weight")
    assert f"one scale for the fp8 weight {name}, {stem}weight_scale_inv or {stem}weight_scale; got 0" in words


def test_a_tied_head_is_the_embedding(tmp_path):
    folder = random_folder(tmp_path / "m", seed=1, tied=True)
    embedding = open_source(folder).weights()["model.embed_tokens.weight"].read().view(np.float32)
    again = random_folder(tmp_path / "n", seed=1, tied=True, extra={"lm_head.weight": embedding})
    zeros = lambda layer, q, k, v: np.zeros_like(q)  # noqa: E731
    assert np.array_equal(model_of(folder).step([1], [0], zeros, [0]), model_of(again).step([1], [0], zeros, [0]))
    other = random_folder(tmp_path / "o", seed=1, tied=True, extra={"lm_head.weight": 2 * embedding})
    assert (
        "an lm_head.weight that equals model.embed_tokens.weight, as tie_word_embeddings says; they differ"
        in refusal(other)
    )


def test_an_index_that_lies(tmp_path):
    folder = random_folder(tmp_path / "m", shards=2)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    first, second = sorted(set(index["weight_map"].values()))
    (tmp_path / "outside.safetensors").write_bytes((folder / first).read_bytes())

    def with_map(change) -> str:
        names = dict(index["weight_map"])
        change(names)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
        return refusal(folder)

    for path in (
        "../outside.safetensors",
        str(tmp_path / "outside.safetensors"),
        "a/../x.safetensors",
        "..",
        "",
        7,
        "x.safetensors\0",
        "/etc/passwd",
    ):
        words = with_map(lambda names: names.update({"lm_head.weight": path}))
        assert (
            f"names of .safetensors files in the same folder; got {path!r} for lm_head.weight; the index is damaged or hostile"
            in words
        )
    words = with_map(lambda names: names.update({"lm_head.weight": "model-9.safetensors"}))
    assert (
        "the file model-9.safetensors, which holds lm_head.weight; the folder has none; fetch all files of the model"
        in words
    )
    assert f"the tensor nothing in {first}; no file has it" in with_map(lambda names: names.update(nothing=first))
    assert f"the tensor model.embed_tokens.weight in {second}; it is in {first}" in with_map(
        lambda names: names.update({"model.embed_tokens.weight": second})
    )
    (folder / "model.safetensors.index.json").write_text('{"weight_map": []}')
    assert "the setting weight_map to be an object; got a list" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copy(folder / first, folder / second)
    assert f"each tensor in one file; model.embed_tokens.weight is in {first} too" in refusal(folder)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    folder = random_folder(tmp_path / "m")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for length in [0, 7, 9, *range(10, 3000, 211), *range(3000, len(whole), len(whole) // 20), len(whole) - 1]:
        file.write_bytes(whole[:length])
        assert "fetch it again" in refusal(folder), length
    file.write_bytes(whole + b"x")
    assert f"bytes of tensors, as the header says; the file has" in refusal(folder)


def test_hostile_headers_end_at_once(tmp_path):
    folder = random_folder(tmp_path / "m")
    file = folder / "model.safetensors"
    tensor = lambda **change: json.dumps(
        {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | change}
    ).encode()  # noqa: E731
    for header, words in {
        tensor(
            shape=[1 << 40, 1 << 40]
        ): "bytes of the tensor t [1099511627776, 1099511627776] in F32; got bytes 0 to 8 of 8",
        tensor(shape=[-2]): "dtype, shape and data_offsets of the tensor t",
        tensor(shape=[2.0]): "dtype, shape and data_offsets of the tensor t",
        tensor(shape=[True, 2]): "dtype, shape and data_offsets of the tensor t",
        tensor(shape=[1] * 9 + [2]): "dtype, shape and data_offsets of the tensor t",
        tensor(shape="2"): "dtype, shape and data_offsets of the tensor t",
        tensor(data_offsets=[8, 0]): "8 bytes of the tensor t [2] in F32; got bytes 8 to 0",
        tensor(
            data_offsets=[1 << 62, (1 << 62) + 8]
        ): "8 bytes of the tensor t [2] in F32; got bytes 4611686018427387904",
        tensor(data_offsets=[0, 8, 9]): "dtype, shape and data_offsets of the tensor t",
        tensor(data_offsets=[-8, 0]): "dtype, shape and data_offsets of the tensor t",
        tensor(shape=[1], data_offsets=[4, 8]): "the tensor t at byte 0, where the one before it ends; got 4",
        tensor(dtype="Q4"): "elements in one of F64, F32,",
        tensor(dtype=["F32"]): "dtype, shape and data_offsets of the tensor t",
        b'{"t": 3}': "dtype, shape and data_offsets of the tensor t",
        b'{"t": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "u": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}': "the tensor u at byte 4",
        b'{"__metadata__": {}}': "0 bytes of tensors, as the header says; the file has 8",
        b"[" * 60_000: "JSON; it is nested too deeply",
        b"\x80abc": "JSON;",
    }.items():
        file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        assert words in refusal(folder), words
    file.write_bytes((1 << 63).to_bytes(8, "little") + bytes(64))
    assert (
        "which starts with the length of its header; got a header of 9223372036854775808 bytes in a file of 72"
        in refusal(folder)
    )


def test_damage_anywhere_is_refused_or_harmless(tmp_path):
    """Random bytes in the header, the config and the index: a refusal in our words, or a folder that still loads."""
    folder = random_folder(tmp_path / "m", "qwen3_moe", shards=2, num_hidden_layers=1, num_experts=3)
    rng, refused = np.random.default_rng(1), 0
    files = [*folder.glob("*.safetensors"), folder / "config.json", folder / "model.safetensors.index.json"]
    for round_ in range(120):
        file = files[round_ % len(files)]
        whole = file.read_bytes()
        damaged = bytearray(whole)
        end = len(whole) if file.suffix == ".json" else 8 + int.from_bytes(whole[:8], "little")
        for at in rng.integers(0, end, rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            model_of(folder, threads=1)
        except vx.UserError:
            refused += 1
        file.write_bytes(whole)
    assert refused > 60


def test_the_library_reads_what_we_read(tmp_path):
    from safetensors import deserialize
    from vortex_attention.formats.safetensors_file import SafetensorsFile

    folder = random_folder(tmp_path / "m", format="F8_E4M3", block=(32, 32))
    ours = SafetensorsFile(folder / "model.safetensors").tensors
    theirs = dict(deserialize((folder / "model.safetensors").read_bytes()))
    assert ours.keys() == theirs.keys() and len(ours) == 35
    for name, tensor in ours.items():
        assert (tensor.kind, list(tensor.shape), tensor.data.tobytes()) == tuple(
            theirs[name][part] for part in ("dtype", "shape", "data")
        )
    write(
        tmp_path / "empty.safetensors",
        {"a": ("F32", np.zeros((0, 3), np.float32)), "b": ("F32", np.ones((), np.float32))},
    )
    assert SafetensorsFile(tmp_path / "empty.safetensors").tensors["a"].shape == (0, 3)


def test_experts_come_from_a_folder_under_their_names(tmp_path):
    source = open_source(random_folder(tmp_path / "m", "qwen3_moe"))
    wanted = {name for name, *_ in _core.required_weights(source.config)}
    assert wanted == set(source.weights()) and source.config.experts == MOE["num_experts"]
