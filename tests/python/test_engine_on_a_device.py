"""The commands' way to an engine on a device, on the one that has none: everything is planned and checked, tokens mean nothing."""

import json

import numpy as np
import pytest
import vortex_attention as vx
from reference.device_shape import CONFIG
from vortex_attention import _core, flows
from vortex_attention.cli.app import main
from vortex_attention.formats.safetensors_file import write
from vortex_attention.models import load_model


def test_a_model_says_where_it_is(device_folder):
    loaded = load_model(device_folder, load_format="dummy", device="null")
    assert loaded.device == "null" and loaded.model.device.startswith("null")
    bench = _core.Workbench(loaded.model, pages=100, max_batch=4)
    base = bench.prefill(list(range(200)))
    assert bench.decode([bench.fork(base), bench.fork(base)], [1, 2]).shape == (2, CONFIG["vocab_size"])
    bench.check_integrity()


def test_a_step_with_attention_in_python_stays_on_the_cpu(device_folder):
    loaded = load_model(device_folder, load_format="dummy", device="null")
    with pytest.raises(vx.UserError, match="load it with device cpu"):
        loaded.model.step([1], [0], lambda *_: None, [0])


def test_bench_reaches_the_device(device_folder, capsys):
    arguments = ["--load-format", "dummy", "--device", "null", "--batch", "3", "--context", "300", "--rounds", "1"]
    assert main(["bench", "quest", "--model", str(device_folder), *arguments, "--steps", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["provenance"]["device"].startswith("null")
    assert [arm["name"] for arm in result["speed"][0]["arms"]] == ["full", "quest"]


def test_the_kernels_of_a_step_are_named(device_folder, capsys):
    arguments = [
        "bench",
        "centroid",
        "--model",
        str(device_folder),
        "--load-format",
        "dummy",
        "--batch",
        "3",
        "--context",
        "600",
        "--rounds",
        "1",
    ]
    arguments += ["--steps", "2", "--budget", "8", "--ledger", "none", "--profile"]
    assert main([*arguments, "--device", "null", "--deterministic", "--json"]) == 0
    (case,) = json.loads(capsys.readouterr().out)["speed"]
    assert [arm["name"] for arm in case["kernels"]] == ["full", "centroid"]
    for arm in case["kernels"]:
        rows = {row["name"]: row for row in arm["kernels"]}
        assert {"q, k, v", "output", "gate, up", "down", "output head", "choose"} <= set(rows)
        read = sum(bool(row["bytes"]) for name, row in rows.items() if name.startswith("attend"))
        assert read == (arm["name"] == "full")  # what a flow attends is counted on the device: nothing here
        assert rows["down"]["launches"] == CONFIG["num_hidden_layers"] and rows["down"]["bytes"] == 2 * 2 * 256 * 128
        assert arm["launches"] == sum(row["launches"] for row in arm["kernels"])
    assert any(row["bytes"] and row["module"].startswith("flow_") for row in case["kernels"][1]["kernels"])
    assert main([*arguments, "--device", "null"]) == 0
    assert "kernels of a step of centroid, 3 × 600 tokens" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "[--profile] a device, whose steps are kernels; --device cpu; say --device cuda" in capsys.readouterr().err


def test_a_deterministic_answer_on_a_device(device_folder, capsys):
    arguments = [
        "--load-format",
        "dummy",
        "--device",
        "null",
        "--raw",
        "--max-tokens",
        "3",
        "--deterministic",
        "--json",
    ]
    assert main(["generate", "hello", "--model", str(device_folder), *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)["tokens"]) == 3


def test_a_long_run_keeps_its_promises(device_folder):
    """The benchmark's own checks, for two seconds where nothing is computed."""
    import pathlib
    import subprocess
    import sys

    script = pathlib.Path(__file__).parents[2] / "benchmarks" / "gpu_long_run.py"
    arguments = ["--seconds", "2", "--pages", "200", "--batch", "6", "--longest", "900", "--device", "null"]
    done = subprocess.run([sys.executable, str(script), str(device_folder), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert (
        facts["problems"] == []
        and facts["preemptions"] > 0
        and facts["host_choices"] > 0
        and facts["prefix_hit_tokens"] > 0
    )


def test_an_unknown_device(device_folder, capsys):
    assert (
        main(
            [
                "bench",
                "quest",
                "--model",
                str(device_folder),
                "--load-format",
                "dummy",
                "--device",
                "tpu",
                "--context",
                "300",
            ]
        )
        == 2
    )
    assert 'got "tpu"; use one of these names' in capsys.readouterr().err


def test_generate_reaches_the_device(device_folder, capsys):
    arguments = ["--load-format", "dummy", "--device", "null", "--raw", "--max-tokens", "3", "--json"]
    assert main(["generate", "hello", "--model", str(device_folder), *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)["tokens"]) == 3


@pytest.mark.parametrize("name", flows.names())
def test_every_ready_flow_runs_on_the_device(name, device_folder):
    settings = {}
    if name == "learned_indexer":
        settings["weights"] = device_folder / "learned.safetensors"
        write(settings["weights"], {which: np.ones((2, 2, 64, 16), np.float32) for which in ("wk", "wq")})
    loaded = load_model(device_folder, load_format="dummy", device="null")
    bench = _core.Workbench(loaded.model, pages=100, max_batch=4)
    base = bench.prefill(list(range(300)))
    arm = bench.fork(base, bench.load_flow(vx.load_flow(name, **settings)))
    assert bench.decode([arm], [1]).shape == (1, CONFIG["vocab_size"])
    assert len(bench.greedy([arm], [1], 20)) == 20
    bench.check_integrity()
