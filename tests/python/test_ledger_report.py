"""`vortex report` on a ledger: what it shows, what it refuses, that nothing comes from outside and nothing untrusted gets in."""

import re

import pytest
from reference.random_model import random_llama
from vortex_attention.cli import experiment, measure
from vortex_attention.cli.app import main
from vortex_attention.errors import UserError
from vortex_attention.ledger import Ledger
from vortex_attention.report.ledger_page import collect, latest, render

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
            threads=2,
        )
        experiment.Experiment(settings, lambda *_: None, opened).run(with_accuracy=False)
        yield opened


def test_the_page_holds_every_suite_the_speed_and_the_join(ledger):
    page = render(collect(ledger, latest(ledger)))
    for words in (
        "<h2>text: 3 items</h2>",
        "<h2>drift: 2 items</h2>",
        "<h2>Decode speed</h2>",
        "2 sequences of 400 tokens",
        "Accuracy and speed",
        "joined by the hash",
    ):
        assert words in page
    assert page.count("plotly-graph-div") >= 6
    assert "<tr class=control><td>random_pages</td>" in page
    assert 'flow "Centroid"' in page.replace("&quot;", '"')


def test_nothing_comes_from_outside_and_names_are_text(ledger):
    page = render(collect(ledger, latest(ledger)))
    assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)\s*=\s*"?https?:', page)
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    assert "Sentence 1 says" not in page


def test_the_command_writes_the_page(ledger, tmp_path, capsys):
    assert main(["report", "-o", str(tmp_path / "r.html"), "--ledger", str(ledger.path)]) == 0
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    run = ledger.runs()[0]["id"]
    assert main(["report", run[:12], "-o", str(tmp_path / "s.html"), "--ledger", str(ledger.path)]) == 0
    assert "Decode speed" in (tmp_path / "s.html").read_text() and "<h2>text" not in (tmp_path / "s.html").read_text()


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
                run.summary = {"result": {"arms": []}}
            ids.append(run.id)
        with pytest.raises(UserError, match=r"\[report\] runs of one model; 2 models; make a report of each"):
            collect(empty, ids)
