"""`vortex report` on a ledger: what it shows, what it refuses, that nothing comes from outside and nothing untrusted gets in."""

import json
import math
import re
import shutil
import subprocess

import pytest
from reference.random_model import random_llama
from vortex_attention.cli import experiment, measure, mix
from vortex_attention.cli.app import main
from vortex_attention.errors import UserError
from vortex_attention.ledger import Ledger
from vortex_attention.report import lengths
from vortex_attention.report.ledger_page import _kernels, collect, latest, render

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    model = str(random_llama(folder / "tiny.gguf", context=2048))
    hostile = folder / "hostile.py"
    hostile.write_text(
        "import vortex_attention as vx\nclass Hostile(vx.vFlow):\n"
        '    """</p><script>alert(1)</script>"""\n    budget = 6\n'
        '    def summarize(self, page):\n        page.c = page.k.mean("token")\n'
        '    def score(self, q, page):\n        return vx.dot(q, page.c, over="dim").sum("head")\n'
    )
    flows = ("centroid", str(hostile))
    with pytest.MonkeyPatch.context() as patch, Ledger.open(folder / "ledger.sqlite") as opened:
        patch.setattr(measure, "natural_text", lambda: TEXT)
        patch.setenv("VORTEX_CACHE", str(folder / "cache"))
        for suite, options in (
            ("needle", {"items": 4, "length": 300}),
            ("needle", {"items": 4, "length": 600}),
            ("text", {"items": 3, "length": 400, "steps": 16}),
            ("drift", {"items": 2, "length": 300, "every": 8}),
        ):
            wanted = measure.Wanted(
                suite=suite, flows=flows, model=model, overrides={"budget": "6"}, threads=2, options=options
            )
            measure.accuracy(wanted, lambda *_: None, opened)
        settings = experiment.Settings(
            model=model,
            flows=flows,
            overrides={"budget": "6"},
            items=0,
            batch=2,
            contexts=(200, 400),
            rounds=2,
            steps=1,
            incumbent="centroid",
            threads=2,
        )
        experiment.Experiment(settings, lambda *_: None, opened).run(with_accuracy=False)
        mix.offline(
            mix.Wanted(
                mixes=("fixed",),
                flows=("centroid",),
                model=model,
                overrides={"budget": "6"},
                requests=2,
                scale=0.1,
                rounds=2,
                threads=2,
            ),
            lambda *_: None,
            opened,
        )
        yield opened


def test_the_page_holds_every_suite_the_speed_and_the_join(ledger):
    page = render(collect(ledger, latest(ledger)))
    for words in (
        "<h2>text: 3 items, 400 tokens</h2>",
        "<h2>drift: 2 items, 300 tokens</h2>",
        "<h2>Decode speed</h2>",
        "2 sequences of 400 tokens",
        "<h2>Offline throughput</h2>",
        "× centroid",
        "Accuracy and speed",
        "joined by the hash",
    ):
        assert words in page
    assert page.count("plotly-graph-div") >= 6
    assert page.index("<h2>needle: 4 items, 300 tokens</h2>") < page.index("<h2>needle: 4 items, 600 tokens</h2>")
    assert page.count("<th>lost / won beside full (p)</th>") == 2  # of needles alone
    assert "kernels that ran" not in page
    assert "<tr class=control><td>random_pages</td>" in page
    assert 'flow "Centroid"' in page.replace("&quot;", '"')


def test_an_interval_without_an_end_does_not_flatten_a_chart():
    from vortex_attention.report.ledger_figures import _span

    ratio = {"center": 2.0, "low": 0.1, "high": 50.0}
    assert _span([ratio]) == [0.0, pytest.approx(4.2)] and _span([ratio | {"high": 2.5}]) == [0.0, pytest.approx(2.625)]
    assert _span([ratio | {"center": 0.5, "high": None}]) == [0.0, pytest.approx(1.05)] and _span([]) is None


def test_kernels_of_a_device_are_named():
    arm = {"name": "<b>", "graph_launches": 7, "kernels": ["flow_Quest/score", "attend/attend_8x4"]}
    said = _kernels({"arms": [arm, {"name": "old"}]})
    assert "&lt;b&gt;" in said and "<td>7</td>" in said and "attend/attend_8x4" in said and "old" not in said


def test_needles_of_several_lengths_make_a_map_by_length_and_depth(ledger):
    collected = collect(ledger, latest(ledger))
    needles = [section for section in collected["sections"] if section["run"]["suite"] == "needle"]
    assert sorted(section["run"]["settings"]["length"] for section in needles) == [300, 600]
    for section in needles:
        assert set(section["depths"]) == {arm["name"] for arm in section["kept"]["arms"] if arm["role"] != "full"}
        by_name = {arm["name"]: arm for arm in section["kept"]["arms"]}
        for name, pairs in section["depths"].items():
            assert len(pairs) == 4
            mean = sum(difference for _, difference in pairs) / 4
            assert mean == pytest.approx(by_name[name]["difference"]["center"], abs=1e-9)
    figure = lengths.by_length_and_depth(needles)
    heat = figure.data[0]
    assert len(heat.x) == lengths.DEPTHS and [row for row in heat.y if row.startswith("centroid")] == [
        "centroid · 300",
        "centroid · 600",
    ]
    drawn = [value for row in heat.z for value in row if value is not None]
    assert len(drawn) == len(heat.y) * 4 and all(math.isfinite(value) for value in drawn)
    assert lengths.by_length(needles).data[0].x == ("300", "600") and lengths.by_length(needles[:1]) is None
    assert "By length and depth" in render(collected)


def test_a_card_holds_code_ir_price_and_where_its_figures_are_from(ledger):
    collected = collect(ledger, latest(ledger))
    card = next(card for card in collected["cards"] if "centroid" in card["arms"])
    assert "class Centroid" in card["source"] and card["ir"].startswith("vortex_ir") and card["role"] == "flow"
    assert {(price["batch"], price["context"]) for price in card["prices"]} >= {(2, 200), (2, 400)}
    assert all(price["attend_bytes"] > 0 and price["step_speedup"] > 0 for price in card["prices"])
    assert {figure["run"] for figure in card["figures"]} == {section["run"]["id"] for section in collected["sections"]}
    page = render(collected)
    assert "class Centroid" in page and "Price of a decode step" in page and "decode 2 × 400, × full attention" in page


def test_runs_of_a_study_are_not_for_a_page(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        with opened.run(
            "accuracy", suite="discover gate", model="m", model_sha256="0", numerics="n", settings={}, environment={}
        ) as run:
            pass
        with pytest.raises(UserError, match="a finished run in the ledger; none"):
            latest(opened)
        with pytest.raises(
            UserError,
            match=r"\[report\] runs that keep a result: of vortex eval, bench, or picture --along; .* is accuracy: discover gate; see `vortex ledger show`, or `vortex ui`",
        ):
            collect(opened, [run.id])


HOSTILE = "</script><script>alert(2)</script><a href=https://evil.example>x</a>"


def test_hostile_text_in_every_place_stays_text(ledger):
    collected = json.loads(json.dumps(collect(ledger, latest(ledger))))
    for section in collected["sections"]:
        section["run"] |= {"model": HOSTILE, "numerics": HOSTILE, "device": HOSTILE, "commit_id": HOSTILE}
        section["run"]["settings"][HOSTILE] = HOSTILE
        if section["run"]["kind"] == "accuracy":
            section["kept"]["suite"] = HOSTILE
            section["kept"]["metrics"][0]["title"] = HOSTILE
            section["depths"] = {HOSTILE: pairs for pairs in section["depths"].values()}
        if section["run"]["kind"] == "throughput":
            section["kept"][0] |= {"mix": HOSTILE, "what": HOSTILE}
        cases = [section["kept"]] if section["run"]["kind"] == "accuracy" else section["kept"]
        for case in cases:
            for arm in case["arms"]:
                if arm["name"] == "centroid":
                    arm["name"] = HOSTILE
                    arm["groups"] = {HOSTILE: 1.0, HOSTILE + "2": 2.0}
        section["hash"][HOSTILE] = section["hash"].pop("centroid")
    for card in collected["cards"]:
        card |= {key: HOSTILE for key in ("hash", "name", "doc", "config", "ir", "source")}
        card["arms"] = [HOSTILE]
    page = render(collected)
    assert "alert(2)" in page and "<script>alert(2)" not in page and "<a href=https://evil" not in page
    # Plotly reads its texts as HTML, so there they are escaped once more: no text of a figure has a tag in it.
    texts = re.findall(r"Plotly\.newPlot\((.*?)\)\s*\}", page, re.S)
    assert texts and all("\\u003ca href" not in text and "\\u003cscript" not in text for text in texts)
    assert "default-src 'none'" in page


def test_nothing_comes_from_outside_and_names_are_text(ledger):
    page = render(collect(ledger, latest(ledger)))
    assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)\s*=\s*"?https?:', page)
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    assert "Sentence 1 says" not in page


def test_the_command_writes_the_page(ledger, tmp_path, capsys):
    assert main(["report", "-o", str(tmp_path / "r.html"), "--ledger", str(ledger.path)]) == 0
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    run = next(row["id"] for row in ledger.runs() if row["kind"] == "speed")
    assert main(["report", run[:12], "-o", str(tmp_path / "s.html"), "--ledger", str(ledger.path)]) == 0
    assert "Decode speed" in (tmp_path / "s.html").read_text() and "<h2>text" not in (tmp_path / "s.html").read_text()


def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(ledger, tmp_path, capsys):
    for place, words in (
        (tmp_path / "no" / "r.html", f"[report] a folder that can be written for {tmp_path / 'no' / 'r.html'}; "),
        (tmp_path, f"[report] the path of a file; {tmp_path} is a folder; name a file in it"),
    ):
        assert main(["report", "-o", str(place), "--ledger", str(ledger.path)]) in (2, 3)
        assert words in capsys.readouterr().err


def test_what_has_not_finished_is_refused(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as empty:
        with pytest.raises(
            UserError,
            match=r"\[report\] a finished run in the ledger; none; measure something first: vortex eval, vortex bench",
        ):
            latest(empty)
        run = empty.run("accuracy", suite="s", model="m", model_sha256="0", numerics="n", settings={}, environment={})
        with pytest.raises(
            UserError,
            match=r"\[report\] runs of accuracy or speed that have finished; .* is running; see `vortex ledger runs`",
        ):
            collect(empty, [run.id])
        ids = []
        for model in "ab":
            with empty.run(
                "accuracy", suite="s", model=model, model_sha256=model, numerics="n", settings={}, environment={}
            ) as run:
                run.summary = {"result": {"arms": [], "items": []}}
            ids.append(run.id)
        with pytest.raises(UserError, match=r"\[report\] runs of one model; 2 models; make a report of each"):
            collect(empty, ids)


@pytest.mark.slow
def test_a_browser_draws_it_under_its_policy(ledger, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on the path")
    collected = collect(ledger, latest(ledger))
    (tmp_path / "r.html").write_text(render(collected))
    shown = subprocess.run(
        [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=9000", "--dump-dom",
         (tmp_path / "r.html").as_uri()], capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    drawn = re.findall(r'class="[^"]*js-plotly-plot', shown.stdout)
    assert len(drawn) >= 6 and shown.stdout.count("main-svg") >= len(drawn)
