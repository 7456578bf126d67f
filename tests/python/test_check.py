"""`vortex check` and `vortex explain`: right flows are priced and explained, wrong ones end in one line with file and
line."""

import json

import pytest
from reference.random_model import random_llama
from test_cli import vortex
from vortex_attention import flows
from vortex_attention.cli.geometry import KNOWN, geometry_of

FLOW = '''import vortex_attention as vx


class Mine(vx.vFlow):
    """My own."""

    budget = 16

    def summarize(self, page):
        page.c = page.k.mean("token")

    def score(self, q, page):
        return vx.dot(q, page.{summary}, over="dim").sum("{axis}")
'''


def test_a_ready_flow_is_priced():
    ran = vortex("check", "quest", "--json", "--context", "4096", "--batch", "2")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    (price,) = report["prices"]
    rows = 2 * 3 * 30  # sequences, KV heads, layers
    assert (price["pages"], price["attended_pages"], price["candidates"]) == (256, 32, 253)
    assert price["summary_bytes_per_page"] == 2 * 64 * 2
    assert price["score_bytes"] == rows * 253 * 2 * 64 * 2
    assert price["attend_bytes"] == rows * 32 * 16 * 256
    assert price["full_attention_bytes"] == rows * 4096 * 256
    assert price["attention_speedup"] == pytest.approx(
        price["full_attention_bytes"] / (price["score_bytes"] + price["attend_bytes"])
    )


def test_integer_kv_is_priced():
    prices = {}
    for kv_dtype in ("bf16", "int8"):
        ran = vortex("check", "centroid", "--json", "--context", "4096", "--kv-dtype", kv_dtype)
        report = json.loads(ran.stdout)
        assert report["kv_dtype"] == kv_dtype
        (prices[kv_dtype],) = report["prices"]
    # 64 channels of K and of V: 2 bytes each, or 1 and a scale of 4 a vector.
    assert prices["int8"]["attend_bytes"] * 256 == prices["bf16"]["attend_bytes"] * 136
    assert prices["int8"]["score_bytes"] == prices["bf16"]["score_bytes"]
    ran = vortex("check", "centroid", "--kv-dtype", "int9")
    assert ran.returncode == 2 and 'one of bf16, int8; got "int9"; did you mean int8?' in ran.stderr


def test_every_ready_flow_is_right():
    ran = vortex("check", *flows.names())
    assert ran.returncode == 0, ran.stderr
    assert all(f"{name}: " in ran.stdout for name in flows.names())
    assert ran.stdout.count(" is right") == len(flows.names())


@pytest.mark.slow
def test_a_file_and_its_mistakes(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FLOW.format(summary="c", axis="head"))
    ran = vortex("check", str(path), "--set", "page_size=32", "--budget", "20")
    assert ran.returncode == 0 and f"{path}: Mine is right - My own." in ran.stdout
    assert "page_size=32 budget=20" in ran.stdout and "c f32[dim] @page" in ran.stdout
    for arguments, words in {
        ("c", "heads"): f"{path}:13",
        ("d", "head"): f"{path}:13",
    }.items():
        path.write_text(FLOW.format(summary=arguments[0], axis=arguments[1]))
        ran = vortex("check", str(path))
        assert ran.returncode == 2 and ran.stdout == "" and ran.stderr.count("\n") == 1, ran
        assert ran.stderr.startswith(f"error: [{words}]") or words.rpartition("/")[2] in ran.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["check", "qest"], 'did you mean "quest"?'),
        (["check", "quest", "--set", "bugdet=3"], "budget"),
        (["check", "quest", "--set", "budget"], "error: [--set] NAME=VALUE, for example budget=32; 'budget'; write the name"),
        (
            ["check", "quest", "--model", "smol"],
            "error: [model] the path of a .gguf file or of a model's folder, or one of the models smollm2; got 'smol'",
        ),
        (["check", "quest", "--batch", "0"], "error: [price] batch from 1 to 1073741824; got 0"),
        (["check"], "Missing argument"),
        (["explain", "quest", "--without", "fuse"], "error: ["),
    ],
)
def test_mistakes_end_in_one_line(arguments, words):
    ran = vortex(*arguments)
    assert ran.returncode == 2 and ran.stdout == "", ran
    assert words in ran.stderr and ran.stderr.startswith("error: [") and ran.stderr.count("\n") == 1


@pytest.mark.slow
def test_explain_shows_program_passes_and_plan():
    ran = vortex("explain", "quest")
    assert ran.returncode == 0
    for words in (
        "# the program as it was traced",
        'summary(name="lo")',
        "# passes\nbind",
        "# the plan on smollm2",
        "page 0 reads",
        "# what its stages read and keep at 4096 tokens, batch 8",
    ):
        assert words in ran.stdout
    shown = json.loads(vortex("explain", "quest", "--json").stdout)
    assert [step["name"] for step in shown["passes"]][-1] == "schedule" and shown["plan"].startswith("plan Quest")
    without = vortex("explain", "quest", "--without", "facts")
    assert without.returncode == 0 and "relu" in ran.stdout and "relu" not in without.stdout
    assert "relu" in vortex("explain", "quest", "--passes").stdout.partition("# the plan")[0]


def test_the_shape_of_a_file(tmp_path):
    shape = geometry_of(str(random_llama(tmp_path / "tiny.gguf", tied=False)))
    assert (shape.layers, shape.heads, shape.kv_heads, shape.head_dim, shape.context) == (2, 4, 2, 32, 512)
    layer = 64 * 128 * 2 + 2 * 64 * 64 + 3 * 64 * 96
    assert shape.weight_bytes == 4 * (2 * layer + 268 * 64)


@pytest.mark.slow
def test_the_known_shape_is_the_files():
    from vortex_attention.models import load_model

    loaded = load_model("smollm2")
    shape = geometry_of(loaded.path)
    assert KNOWN["smollm2"] == shape.__class__(**{**shape.__dict__, "name": "smollm2"})
    assert loaded.model.weight_bytes == shape.weight_bytes
