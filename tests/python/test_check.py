"""`vortex check` and `vortex explain`: right flows are priced and explained, wrong ones end in one line with file and
line."""

import json
import pathlib
import re

import pytest
from reference.random_model import random_llama
from test_cli import vortex
from vortex_attention import _core, flows
from vortex_attention.models.geometry import KNOWN, geometry_of
from vortex_attention.measure import devices

ROOT = pathlib.Path(__file__).parents[2]

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


def test_what_layers_and_steps_share_is_priced():
    shared = ["--set", "reuse=1:0,3:2,5:4", "--set", "refresh_every=4"]
    ran = vortex("check", "quest", "--context", "4096", "--batch", "2", *shared)
    assert ran.returncode == 0, ran.stderr
    for words in (
        "reuse=1:0,3:2,5:4 refresh_every=4",
        "  saved      9.04 MB of 11.7 MB: what every page's summaries in every sparse layer would be to read at every step",
        "  reuse      3 layers take the set of an earlier layer",
        "  refresh    a set is chosen every 4 steps; new pages are added in between",
        "  carried    0.09 MB a sequence of 4096 tokens, from step to step",
    ):
        assert words in ran.stdout
    report = json.loads(vortex("check", "quest", "--json", "--context", "4096", "--batch", "2", *shared).stdout)
    (price,) = report["prices"]
    assert report["reuse"] == {"1": 0, "3": 2, "5": 4} and report["refresh_every"] == 4
    assert price["score_bytes"] == 2 * 3 * 27 * 253 * 2 * 64 * 2 / 4
    assert price["attend_bytes"] == 2 * 3 * 30 * (32 * 16 + 1.5) * 256  # tokens that came since, on average
    assert price["carried_bytes_per_sequence"] == 4 * (30 * 3 * 257 + 30)
    assert price["flat_score_bytes"] == 2 * 3 * 30 * 253 * 2 * 64 * 2
    (held,) = json.loads(vortex("check", "hysteresis", "--json", "--context", "4096", "--batch", "2").stdout)["prices"]
    assert held["carried_bytes_per_sequence"] == 2 * 4 * 30 * 3 * 256
    assert held["score_bytes"] == 2 * 3 * 30 * 253 * (2 * 64 + 4)


def test_groups_and_the_rest_are_priced():
    shown = vortex("check", "centroid_rest_groups", "--context", "8192").stdout
    assert "  rest       pages that are not chosen are estimated; what it reads is in the summaries' bytes" in shown
    shown = vortex("check", "hierarchical", "--context", "8192").stdout
    assert re.search(r"  saved      7\d\.\d MB of 93\.8 MB: what every page's summaries", shown), shown
    assert "  saved " not in vortex("check", "quest", "--context", "8192").stdout


def test_the_json_is_as_documented():
    """docs/commands.md lists the keys."""
    report = json.loads(vortex("check", "quest", "--json", "--context", "4096", "--device", "h200").stdout)
    page = (ROOT / "docs" / "commands.md").read_text().split("## The JSON of `vortex check`")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", page))
    (price,) = report["prices"]
    for keys in (
        report,
        report["device"],
        price,
        price["predicted"],
        price["predicted"]["parts_milliseconds"],
        price["stages"][0],
    ):
        assert set(keys) <= documented, set(keys) - documented
    assert report["schema"] == 1 and report["sandbox"] is None and report["device"]["name"] == "h200"


@pytest.mark.parametrize("device", ["h200", "h100"])
def test_a_prediction_adds_up(device):
    report = json.loads(
        vortex("check", "quest", "--json", "--device", device, "--model", "qwen3-1.7b", "--batch", "64").stdout
    )
    for price in report["prices"]:
        said = price["predicted"]
        assert sum(said["parts_milliseconds"].values()) == pytest.approx(said["milliseconds"])
        assert said["speedup"] == pytest.approx(said["full_milliseconds"] / said["milliseconds"])
        assert said["speed_of_light_milliseconds"] < said["milliseconds"] and said["bound"] in devices.BOUNDS
    assert report["prices"][-1]["predicted"]["speedup"] > report["prices"][0]["predicted"]["speedup"]


# sequences × context, milliseconds of centroid and of full attention: the table of docs/gpu.md.
MEASURED_H200 = [
    (1, 32768, 1.81, 3.23),
    (8, 32768, 2.70, 9.65),
    (64, 16384, 4.52, 31.3),
    (96, 11264, 5.45, 32.4),
    (256, 4096, 9.35, 33.3),
]


@pytest.mark.parametrize("batch, context, flow, full", MEASURED_H200)
def test_the_h200_is_predicted_as_it_was_measured(batch, context, flow, full):
    shape = geometry_of("qwen3-1.7b")
    plan = _core.compile_flow(flows.load_flow("centroid"), **shape.bound)
    price = _core.price(plan, **shape.workload, context=context, batch=batch)
    said = devices.predict(price, devices.GPUS["h200"], layers=shape.layers, kv_heads=shape.kv_heads, batch=batch)
    assert 1000 * said.step == pytest.approx(flow, rel=0.25) and 1000 * said.full == pytest.approx(full, rel=0.25)


def test_the_sandbox_of_a_file_is_said(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FLOW.format(summary="c", axis="head"))
    first, second = (json.loads(vortex("check", str(path), "--json").stdout) for _ in range(2))
    assert first["sandbox"] in ("bubblewrap", "landlock") and not first["traced_before"]
    assert second["sandbox"] == first["sandbox"] and second["traced_before"] and second["prices"] == first["prices"]
    path.write_text(FLOW.format(summary="c", axis="head") + "open(__file__).read()\n")
    assert vortex("check", str(path)).returncode == 2
    trusted = json.loads(vortex("check", str(path), "--trust-flow", "--json").stdout)
    assert trusted["sandbox"] == "none"


@pytest.mark.slow
def test_a_machine_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    model = str(random_llama(tmp_path / "tiny.gguf", tied=False))
    asked = ("check", "quest", "--model", model, "--batch", "2", "--json")
    estimated = json.loads(vortex(*asked).stdout)
    assert estimated["device"]["rates"].startswith("estimated from the rate of reading memory")
    measured, kept = json.loads(vortex(*asked, "--measure").stdout), json.loads(vortex(*asked).stdout)
    assert measured["device"]["rates"] == "measured on this machine" and kept == measured


def test_a_part_that_took_no_time_has_a_rate():
    """A small model's, between two looks at the clock."""
    from vortex_attention.bench.profile import share_of

    assert share_of(0.0, 1e10) == share_of(1e-12, 1e10) == 4.0 and share_of(2e-10, 1e10) == 0.5


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
    assert ran.returncode == 2 and 'one of bf16, int8, fp8; got "int9"; did you mean int8?' in ran.stderr


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
        (
            ["check", "quest", "--set", "budget"],
            "error: [--set] NAME=VALUE, for example budget=32; 'budget'; write the name",
        ),
        (
            ["check", "quest", "--model", "smol"],
            "error: [model] the path of a .gguf file or of a model's folder, or one of the models smollm2; got 'smol'",
        ),
        (["check", "quest", "--batch", "0"], "error: [price] batch from 1 to 1073741824; got 0"),
        (["check"], "Missing argument"),
        (
            ["check", "quest", "--device", "h20"],
            'error: [--device] one of cpu, h200, h100; "h20"; did you mean "h200"?',
        ),
        (
            ["check", "quest", "--device", "h200", "--measure"],
            "error: [--measure] --device cpu; h200; leave one of them out",
        ),
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
    assert KNOWN["smollm2"] == shape._replace(name="smollm2")
    assert loaded.model.weight_bytes == shape.weight_bytes
