"""What a model takes of memory: said before it is loaded, true to what it then holds, and refused when there is less."""

import json

import numpy as np
import pytest
import vortex_attention as vx
from reference.random_folder import random_folder
from reference.random_model import random_llama
from vortex_attention import _core
from vortex_attention.cli import experiment
from vortex_attention.cli.app import main
from vortex_attention.models import load_model, memory_of, open_source
from vortex_attention.models.dummy_source import known_shapes
from vortex_attention.models.memory import size_of
from vortex_attention.models.weights import Weights


def test_sizes_in_words():
    assert [size_of(count) for count in (5, 2048, 3 << 20, 5 << 29)] == ["5 bytes", "2.0 KiB", "3.0 MiB", "2.5 GiB"]


@pytest.mark.parametrize("format", ["f32", "bf16", "q8_0", "q4_1"])
def test_weights_take_what_was_said(tmp_path, format):
    """All linears are packed, so that what a step reads is what they hold; norms come on top."""
    source = open_source(random_llama(tmp_path / "tiny.gguf", format=format, tied=False))
    said = memory_of(source, batch=1)
    held = _core.make_model(source.config, Weights(source.weights()), 1).weight_bytes
    assert held < said.weights < 1.15 * held
    assert said.total == said.weights + said.scratch and said.kv == said.summaries == 0
    if format == "f32":  # q and k are put in order, so that they are made
        assert said.loading == (128 + 64) * 64 * 4


def test_latent_attention_packs_its_projections(tmp_path):
    sizes = {"model_type": "deepseek_v2", "num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 160,
             "num_attention_heads": 4, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32,
             "max_position_embeddings": 256}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    source = open_source(tmp_path, "dummy")
    held = _core.make_model(source.config, Weights(source.weights()), 1).weight_bytes
    embeddings = 160 * 64 * 2  # made, and read by rows
    assert held < memory_of(source, batch=1).weights - embeddings < 1.15 * held


def test_kv_and_summaries_are_those_of_the_pool(tmp_path):
    source = open_source(random_folder(tmp_path / "m"))
    said = memory_of(source, batch=4, pages=100, page_size=16, summary_bytes=128)
    workbench = _core.Workbench(load_model(random_llama(tmp_path / "same.gguf")).model, page_size=16, pages=100)
    workbench.fill(10)
    assert said.kv == 100 * 2 * 2 * 16 * 2 * 32 * 2 and said.summaries == 100 * 2 * 2 * 128
    assert said.scratch > 4 * 4 * source.config.vocabulary


def test_words(tmp_path, monkeypatch):
    source = open_source(random_folder(tmp_path / "m", vocab_size=20_000))
    said = memory_of(source, batch=2, pages=64)
    words = str(said)
    assert words.startswith("m takes ") and " of memory (weights " in words and ", KV 512.0 KiB, scratch " in words
    dummy = memory_of(open_source(tmp_path / "m", "dummy"), batch=1, chunk=1)
    assert (
        f"of memory (weights {size_of(dummy.weights)}, others while they are loaded {size_of(20_000 * 64 * 2)})"
        in str(dummy)
    )
    said.require()
    monkeypatch.setattr(_core, "available_memory", lambda: said.total)
    said.require()
    monkeypatch.setattr(_core, "available_memory", lambda: said.total - 1)
    with pytest.raises(vx.MachineError) as refused:
        said.require("use less")
    assert str(refused.value) == f"[memory] {words}; {size_of(said.total - 1)} can be had here; use less"


def test_too_little_is_an_error_before_anything_is_packed(tmp_path, monkeypatch, capsys):
    folder = random_folder(tmp_path / "m")
    monkeypatch.setattr(_core, "available_memory", lambda: 100_000)
    monkeypatch.setattr(_core, "make_model", lambda *_: pytest.fail("it was loaded"))
    for command in (["generate", "hi"], ["bench", "quest", "--context", "128", "--batch", "2"]):
        assert main([*command, "--model", str(folder), "--load-format", "dummy"]) == 3
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: [memory] m takes ") and "97.7 KiB can be had here" in error
    assert error.endswith("lower --batch or --context, measure fewer flows at once, or use a smaller model or format")


def test_absurd_sizes_of_a_config_alone_are_too_much_memory(tmp_path):
    folder = random_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": 1 << 24, "hidden_size": 1 << 20}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(vx.MachineError, match=r"^\[memory\] m takes \d+\.\d GiB of memory .* can be had here"):
        load_model(folder, load_format="dummy")


# Parameters in billions, as the models' own pages give them.
PARAMETERS = {"qwen3-0.6b": 0.596, "qwen3-1.7b": 1.721, "qwen3-4b": 4.022, "qwen3-8b": 8.191, "qwen2.5-1.5b": 1.544,
              "llama-3.2-1b": 1.236, "llama-3.2-3b": 3.213}  # fmt: skip


def test_known_shapes_have_the_sizes_of_the_models():
    assert sorted(PARAMETERS) == known_shapes()
    for name, billions in PARAMETERS.items():
        source = open_source(name, "dummy")
        count = sum(weight.rows * weight.columns for weight in source.weights().values())
        assert round(count / 1e9, 3) == billions, name
        packed = memory_of(source, batch=1).weights
        assert 2 * count < packed < 2 * count * (1.5 if source.config.tied_embeddings else 1.1)


def test_random_weights_are_the_seeds(tmp_path):
    folder = random_folder(tmp_path / "m", "qwen3_moe", hidden_size=96)
    (folder / "model.safetensors").unlink()
    read = lambda seed: {name: weight.read() for name, weight in open_source(folder, "dummy", seed).weights().items()}  # noqa: E731
    first, again, other = read(1), read(1), read(2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)
    assert open_source(folder, "dummy", 1).sha256() != open_source(folder, "dummy", 2).sha256()
    gate, up = (first[f"model.layers.0.mlp.experts.0.{name}_proj.weight"] for name in ("gate", "up"))
    assert gate.shape == (32, 192) and not np.array_equal(gate, up)
    values = (first["model.embed_tokens.weight"].view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    assert abs(values.std() * 96**0.5 - 1) < 0.03 and abs(values.mean()) < 0.003
    norm = first["model.norm.weight"].view(np.float32)
    assert abs(norm.mean() - 1) < 0.02 and 0.01 < norm.std() < 0.03


def test_generate_and_bench_need_a_config_alone(tmp_path, capsys):
    folder = random_folder(tmp_path / "m", "qwen3")
    (folder / "model.safetensors").unlink()
    assert (
        main(
            [
                "generate",
                "hello",
                "--raw",
                "--model",
                str(folder),
                "--load-format",
                "dummy",
                "--max-tokens",
                "5",
                "--json",
            ]
        )
        == 0
    )
    assert '"prompt_tokens": 5' in capsys.readouterr().out
    settings = experiment.Settings(model=str(folder), load_format="dummy", flows=["quest"], items=0, batch=2, contexts=[128],
                                   rounds=1, steps=1, threads=1, overrides={"budget": "4"})  # fmt: skip
    said = []
    result = experiment.Experiment(settings, lambda what, done, of: said.append(what)).run(with_accuracy=False)
    assert result["model"]["name"] == "m" and result["speed"][0]["arms"][1]["name"] == "quest"
    assert said[0].startswith("loading: m takes ") and ", summaries " in said[0]


def test_what_a_load_format_must_be(tmp_path):
    for name, format, words in [
        ("qwen3-0.6b", "dumy", "[--load-format] one of auto, dummy; got 'dumy'; did you mean dummy?"),
        ("qwen3-0.6", "dummy", "qwen3-8b; got 'qwen3-0.6'; did you mean qwen3-0.6b?"),
        (str(tmp_path), "dummy", "[model] a folder with a config.json or one of the shapes llama-3.2-1b, "),
        ("qwen3-0.6b", "auto", "of this one the shape alone is known: give --load-format dummy for made-up weights, or the path of its files"),
    ]:  # fmt: skip
        with pytest.raises(vx.UserError) as refused:
            open_source(name, format)
        assert words in str(refused.value)
