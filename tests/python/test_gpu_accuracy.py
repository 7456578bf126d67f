"""The benchmark that measures a model's accuracy against the clock, and its tables: on the CPU, where answers mean something, and on the device that
has none."""

import json
import pathlib
import sys
from xml.etree import ElementTree

import pytest
from reference.random_model import random_llama

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import accuracy_tables
        import gpu_accuracy

        yield gpu_accuracy, accuracy_tables


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_llama(
        tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048, width=128, ffn_width=256, head_dim=64, unused=4
    )


ARMS = ["centroid@16", "centroid@8", "quest@8+refresh_every=4", "random_pages@8", "recent_only@8"]


@pytest.mark.parametrize("device", ["cpu", "null"])
def test_parts_are_measured_and_tabled(scripts, model, small_sources, tmp_path, monkeypatch, capsys, device):
    gpu_accuracy, accuracy_tables = scripts
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    words = [str(model), "--out", str(tmp_path), "--device", device, "--items", "2", "--tasks", "niah_single_1,fwe", "--texts", "2"]  # fmt: skip
    gpu_accuracy.main([*words, "--parts", "ruler:1000,ruler:1300,speed:1000", "--arms", *ARMS])
    said = capsys.readouterr().out
    served = [name for name in ARMS if f"{name} is left out" not in said]
    assert set(ARMS) - set(served) <= {"quest@8+refresh_every=4"}
    gpu_accuracy.main([*words, "--parts", "drift:1200", "--arms", *served[:2]])
    gpu_accuracy.main([*words, "--parts", "ruler:1000/1,ruler:1000/2", "--timed", "1000", "--arms", *served[:2]])
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [row["part"] for row in rows] == [
        "ruler:1000",
        "ruler:1300",
        "speed:1000",
        "drift:1200",
        "drift:1200",
        "speed:1000",
        "ruler:1000/1",
        "ruler:1000/2",
    ]
    assert [len(row["result"]["arms"]) for row in rows[3:5]] == [2, 3]  # of drift an arm more each time
    assert [(arm["name"], arm["batch"]) for arm in rows[5]["result"]] == [(name, 4) for name in ("full", *served[:2])]
    asked = [[item["name"].rsplit("-", 1)[1] for item in rows[place]["result"]["items"]] for place in (0, 6, 7)]
    assert asked == [["0", "1"] * 2, ["2", "3"] * 2, ["4", "5"] * 2]  # other questions each time
    assert [arm["name"] for arm in rows[0]["result"]["arms"]] == ["full", *served]
    gpu_accuracy.main([*words, "--parts", "ruler:1000", "--arms", *ARMS])  # again: the ledger knows
    again = json.loads((tmp_path / "results.jsonl").read_text().splitlines()[-1])["result"]
    assert (
        again["copied"] == 4 * (1 + len(served))
        and again["arms"][1]["outcomes"] == rows[0]["result"]["arms"][1]["outcomes"]
    )
    gpu_accuracy.main([*words, "--parts", "ruler:1300", "--seconds", "0.01", "--arms", *ARMS])
    assert "ruler:1300 is left out: about" in capsys.readouterr().out
    pictures = tmp_path / "pictures"
    words = ["--shape", "2,4,2,64", "--confirm", "centroid@16"]
    accuracy_tables.main([str(tmp_path / "results.jsonl"), "--pictures", str(pictures), *words])
    table = capsys.readouterr().out
    assert (
        "| flow | tokens a row | bytes at 1,300 | 1,000 | 1,300 | all | questions |" in table
        and "| *`random_pages@8`* |" in table
    )
    assert "centroid@8: " in table and table.count("not among those to be confirmed") == len(served) - 3
    for name, said in (("bytes.svg", "centroid@16"), ("frontier.svg", "centroid@16"), ("drift.svg", "tokens")):
        svg = ElementTree.parse(pictures / name).getroot()
        assert said in " ".join(element.text or "" for element in svg.iter())
    assert "[12, 4] questions" in table and "2 texts, settings" in table and "| `centroid@16` |" in table
    if device == "cpu":  # a random model: its KLs differ from arm to arm
        cells = [line for line in table.splitlines() if line.startswith("| `centroid@")][:2]
        assert cells[0] != cells[1] and "(.000)" not in cells[0]


def test_bytes_beside_full_attentions_are_those_of_the_price(scripts):
    """16 tokens of K and V of 128 channels are 8,192 bytes; a centroid is 256 of them. 64 of 1,875 pages are attended."""
    _, accuracy_tables = scripts
    share = accuracy_tables.share_of_bytes
    assert share("centroid@64", 30_000, (28, 12, 2, 128)) == pytest.approx(256 / 8192 + 64 / 1875, rel=0.02)
    assert share("slow_means@64+reuse=2", 30_000, (28, 12, 2, 128)) == pytest.approx(1 / 16 + 64 / 1875, rel=0.02)
    assert share("nobody@64", 30_000, (28, 12, 2, 128)) is None


def test_names_in_a_picture_are_kept_apart(scripts):
    import accuracy_pictures

    assert accuracy_pictures.ticks(0.9, 1.45) == [0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    assert accuracy_pictures.ticks(-7.2, 0.5) == [-8, -6, -4, -2, 0, 2]
    loss = (-0.5, -1.0, 0.0)
    points = [("a<b", 12, loss, False), ("c@1", 12.1, loss, False), ("random_pages@4", 2, (-70.0, -80.0, -60.0), True)]
    for less in (False, True):
        svg = accuracy_pictures.frontier_svg("t", "s", points, margin=1.0, across="x", less=less)
        assert "a&lt;b" in svg and "random_pages@4 (−70)" in svg
        names = {
            element.text: float(element.get("y")) for element in ElementTree.fromstring(svg).iter() if element.get("y")
        }
        assert abs(names["a<b"] - names["c@1"]) >= 12


def test_pooled_losses_take_a_question_of_all_lengths_as_one_cluster(scripts):
    _, accuracy_tables = scripts

    def part(losses):
        items = [{"group": "vt", "name": f"vt-100-7-{i}"} for i in range(len(losses))]
        outcomes = [{"score": 1.0, "kl": 0.0} for _ in losses], [{"score": 1.0 - loss, "kl": 0.5} for loss in losses]
        return {
            "items": items,
            "arms": [
                {"name": name, "attended_tokens": 1, "outcomes": found}
                for name, found in zip(("full", "a@1"), outcomes)
            ],
        }

    ruler = accuracy_tables.Ruler({"ruler:100:7": part([0, 1, 0, 1]), "ruler:200:7": part([0, 1, 0, 1])})
    assert ruler.cell("a@1", [100]) == "−50.0 ± 28.9 (.500)"
    assert ruler.cell("a@1", [100, 200]) == "−50.0 ± 28.9 (.500)"  # the second length says nothing more
    assert ruler.losses("a@1", [100, 200])[1] == [
        (length, "vt", str(i), "7") for length in (100, 200) for i in range(4)
    ]
    both = accuracy_tables.Ruler({"ruler:100:7": part([0, 1, 0, 1]), "ruler:100:8": part([0, 1, 0, 1])})
    assert both.cell("a@1", [100]) == "−50.0 ± 18.9 (.500)"  # other seeds are other questions


def test_a_gpus_results_are_held_to_bounds_beside_the_cpus(scripts, model, tmp_path, monkeypatch, capsys):
    import cpu_beside_gpu
    from vortex_attention.cli import measure
    from vortex_attention.cli.app import main

    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        measure, "natural_text", lambda: " ".join(f"Sentence {i} is about {i * 7}." for i in range(900))
    )
    asked = ["eval", "centroid@8", "--suite", "text", "--items", "2", "--length", "400", "--steps", "8", "--model", str(model), "--json"]  # fmt: skip
    assert main([*asked, "--ledger", "none"]) == 0
    cpu = json.loads(capsys.readouterr().out)
    paths = [str(tmp_path / name) for name in ("cpu.json", "gpu.json")]

    def compared(change) -> tuple[int, str]:
        gpu = json.loads(json.dumps(cpu))
        change(gpu)
        for path, result in zip(paths, (cpu, gpu)):
            pathlib.Path(path).write_text(json.dumps(result))
        return cpu_beside_gpu.main(paths), capsys.readouterr().out

    code, said = compared(lambda gpu: None)
    assert (
        code == 0 and "text, 2 items" in said and "all within" in said and "| `centroid@8` | +0.0000 | 0.000 |" in said
    )
    outcome = ("arms", 1, "outcomes", 0)
    for key, value, words in (
        ("log_probability", -9.0, "centroid@8: means part by"),
        ("kl", 3.0, "centroid@8: KLs are"),
    ):

        def change(gpu, key=key, value=value):
            where = gpu
            for step in outcome:
                where = where[step]
            where[key] = value

        code, said = compared(change)
        assert code == 1 and words in said
    code, said = compared(lambda gpu: (gpu["items"].pop(), [arm["outcomes"].pop() for arm in gpu["arms"]]))
    assert code == 0 and "text, 1 items" in said  # those that both have
    with pytest.raises(SystemExit, match="results that share items; none came"):
        compared(lambda gpu: gpu["items"].clear())
    lines = tmp_path / "results.jsonl"
    lines.write_text(json.dumps({"part": "text:400", "result": cpu}) + "\n")
    pathlib.Path(paths[0]).write_text(json.dumps(cpu))
    assert cpu_beside_gpu.main([paths[0], f"{lines}:text:400"]) == 0
    with pytest.raises(SystemExit, match="a part of .*results.jsonl; text:500; name one that is there"):
        cpu_beside_gpu.main([paths[0], f"{lines}:text:500"])


def test_an_answer_is_paired_with_full_attentions_of_its_own_run(scripts):
    _, accuracy_tables = scripts

    def run(name, full, own, cluster=None):
        items = [{"group": "qa_1", "name": f"qa_1-100-7-{i}", **({"cluster": cluster[i]} if cluster else {})} for i in range(4)]  # fmt: skip
        outcomes = ([{"score": score, "kl": 0.0} for score in scores] for scores in (full, own))
        return {"items": items, "arms": [{"name": arm, "attended_tokens": 1, "outcomes": found} for arm, found in zip(("full", name), outcomes)]}  # fmt: skip

    parts = {
        "ruler:100:7:0": run("a@1", [0, 0, 1, 1], [0, 0, 1, 0]),
        "ruler:100:7:1": run("b@1", [1, 1, 1, 1], [0, 0, 1, 1], ["x", "x", "y", "z"]),
    }
    ruler = accuracy_tables.Ruler(parts)
    assert ruler.losses("a@1", [100])[0] == [0, 0, 0, -1] and ruler.losses("b@1", [100])[0] == [-1, -1, 0, 0]
    assert (
        ruler.mean("a@1", [100]).clusters == ruler.mean("b@1", [100]).clusters == 3
    )  # documents, wherever they are named
    assert ruler.mean("b@1", [100]).error == pytest.approx(0.375)  # the two questions about x are one draw


def test_arms_are_confirmed_in_their_order(scripts, capsys):
    _, accuracy_tables = scripts
    items = [{"group": "vt", "name": f"vt-100-7-{i}"} for i in range(200)]
    lost = {"full": 0, "slow_means@64": 0.0, "slow_means@32": 0.5, "slow_means@16": 0.0}
    arms = [{"name": name, "attended_tokens": 1, "outcomes": [{"score": 1 - (worse if i % 4 == 0 else 0), "kl": 0} for i in range(200)]}
            for name, worse in lost.items()]  # fmt: skip
    result = {"items": items, "arms": arms}
    small = result | {"items": items[:4], "arms": [arm | {"outcomes": arm["outcomes"][:4]} for arm in arms]}
    for what, first in ((result, "undecided"), (small, "undecided")):  # nothing differs: the rule of three
        accuracy_tables.Ruler({"ruler:100:7": what}).table(
            (2, 4, 2, 64), [["slow_means@64", "slow_means@32", "slow_means@16"]]
        )
        said = dict(line[2:].split(": ") for line in capsys.readouterr().out.splitlines() if line.startswith("- "))
        assert said["slow_means@64"].endswith(first)
    for arm in arms[1:]:
        for i in range(8):
            arm["outcomes"][i]["score"] += 0.01 * (-1) ** i
    accuracy_tables.Ruler({"ruler:100:7": result}).table(
        (2, 4, 2, 64), [["slow_means@64", "slow_means@32", "slow_means@16"]]
    )
    said = dict(line[2:].split(": ") for line in capsys.readouterr().out.splitlines() if line.startswith("- "))
    assert said["slow_means@64"].endswith("non-inferior, confirmed")
    assert said["slow_means@32"].endswith("inferior") and said["slow_means@16"].endswith(
        "non-inferior alone, not after those before it"
    )
