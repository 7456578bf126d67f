"""The commands' way to an engine on a device, on the one that has none: everything is planned and checked, tokens mean nothing."""

import json

import pytest
import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.cli.app import main
from vortex_attention.models import load_model

CONFIG = {
    "model_type": "qwen3",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 320,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_model_says_where_it_is(folder):
    loaded = load_model(folder, load_format="dummy", device="null")
    assert loaded.device == "null" and loaded.model.device.startswith("null")
    bench = _core.Workbench(loaded.model, pages=100, max_batch=4)
    base = bench.prefill(list(range(200)))
    assert bench.decode([bench.fork(base), bench.fork(base)], [1, 2]).shape == (2, CONFIG["vocab_size"])
    bench.check_integrity()


def test_a_step_with_attention_in_python_stays_on_the_cpu(folder):
    loaded = load_model(folder, load_format="dummy", device="null")
    with pytest.raises(vx.UserError, match="load it with device cpu"):
        loaded.model.step([1], [0], lambda *_: None, [0])


def test_bench_reaches_the_device(folder, capsys):
    arguments = ["--load-format", "dummy", "--device", "null", "--batch", "3", "--context", "300", "--rounds", "1"]
    assert main(["bench", "quest", "--model", str(folder), *arguments, "--steps", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["provenance"]["device"].startswith("null")
    assert [arm["name"] for arm in result["speed"][0]["arms"]] == ["full", "quest"]


def test_an_unknown_device(folder, capsys):
    assert (
        main(
            ["bench", "quest", "--model", str(folder), "--load-format", "dummy", "--device", "tpu", "--context", "300"]
        )
        == 2
    )
    assert 'got "tpu"; use one of these names' in capsys.readouterr().err


def test_generate_reaches_the_device(folder, capsys):
    arguments = ["--load-format", "dummy", "--device", "null", "--raw", "--max-tokens", "3", "--json"]
    assert main(["generate", "hello", "--model", str(folder), *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)["tokens"]) == 3
