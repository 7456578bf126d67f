"""Pages along a generation: what is recorded is what the engine read, it survives the ledger, the pictures hold it."""

import json
import re

import numpy as np
import pytest
from reference.random_model import random_llama

from vortex_attention import UserError, load_flow
from vortex_attention.cli.app import main
from vortex_attention.eval import along as measuring
from vortex_attention.ledger import Ledger
from vortex_attention.models import load_model, open_source
from vortex_attention.report.along import MOST, bits_of, figures, part
from vortex_attention.report.shares import LEVELS, shares_svg

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(400))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(random_llama(tmp_path_factory.mktemp("along") / "tiny.gguf", context=1024))


def measured(model, steps=5, **flows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "natural_text", lambda: TEXT)
        loaded = load_model(open_source(model), threads=1)
        return loaded, measuring.along(loaded, flows, steps=steps, length=300, seed=1, threads=1, kv_dtype="bf16")


def test_what_is_read_keeps_the_budget_and_the_pinned_pages(model):
    loaded, seen = measured(model, quest=load_flow("quest", budget=6), all=load_flow("centroid", budget=1000))
    one = seen["quest"]
    assert one.read.shape[:3] == (5, loaded.config.layers, loaded.config.attention.kv_heads) and one.page_size == 16
    assert (one.read.sum(-1) == 6).all() and one.read[..., 0].all()
    for step in range(5):
        pages = -(-(one.prompt + step) // 16)
        assert one.read[step, :, :, pages - 1].all() and not one.read[step, :, :, pages:].any()
        assert seen["all"].read[step, :, :, :pages].all()


def test_bits_come_back_from_the_ledger(model):
    one = measured(model, quest=load_flow("quest", budget=6))[1]["quest"]
    kept = json.loads(json.dumps(one.to_json()))
    assert (bits_of(kept) == one.read).all()
    for broken in (
        {},
        kept | {"shape": [1, 2]},
        kept | {"read": "AAAA"},
        kept | {"shape": [1 << 20] * 4},
        kept | {"shape": ["x"] * 4},
    ):
        with pytest.raises(
            UserError,
            match=r"\[report\] the pages of a generation as vortex picture --along writes them; .*; draw it again",
        ):
            bits_of(broken)


def test_a_share_is_drawn_in_its_shade():
    shares = np.array([[0.0, 0.1, 0.1, 1.0], [0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    svg = shares_svg("a < b", "shade & share", shares, {0: "first", 1: "near", 2: "<second>"}, needle=2)
    assert "near" not in svg  # it would run into the first
    drawn = dict(re.findall(r'<path fill="(#\w+)" d="([^"]*)"', svg))
    assert set(drawn) == {LEVELS[0][1], LEVELS[4][1], LEVELS[2][1]}
    assert drawn[LEVELS[0][1]].count("M") == 1  # two pages in one run
    assert "a &lt; b" in svg and "&lt;second&gt;" in svg and "shade &amp; share" in svg and "<second>" not in svg


def test_a_page_holds_the_bits_unless_they_are_too_many():
    read = np.zeros((2, 2, 1, 9), dtype=bool)
    read[:, :, :, 3] = True
    kept = {"shape": [2, 2, 1, 9], "read": "eJw=", "page_size": 16, "pinned": [1, 1], "needle_page": 3, "prompt": 140}
    name = "</script><b>"
    html = part(name, kept, read)
    assert html.count("<svg") == len(figures(name, kept, read)) == 2 and "</script><b>" not in html.replace(
        "</script></div>", ""
    )
    assert "reads 11.1 % of the pages" in html and '"shape": [2, 2, 1, 9]' in html
    assert "Single heads are left out" in part(name, kept | {"read": "A" * (MOST + 1)}, read)


def test_the_command_draws_and_records(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measuring, "natural_text", lambda: TEXT)
    ledger = tmp_path / "ledger.sqlite"
    words = [
        "picture",
        "quest",
        "--along",
        "3",
        "--length",
        "300",
        "--budget",
        "6",
        "--model",
        model,
        "--threads",
        "1",
        "-o",
        str(tmp_path / "out"),
        "--ledger",
        str(ledger),
    ]
    assert main(words) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["quest.heads.svg", "quest.steps.svg"]
    with Ledger.open(ledger, create=False) as opened:
        (run,) = opened.runs()
        assert (run["kind"], run["suite"], run["status"], run["arms"]) == ("selection", "along", "done", 1)
    assert "% of the pages over 3 steps" in capsys.readouterr().out
    assert main(["report", "-o", str(tmp_path / "r.html"), "--ledger", str(ledger)]) == 0
    page = (tmp_path / "r.html").read_text()
    assert (
        "<h2>Pages read along a generation</h2>" in page and page.count("<svg") == 2 and "DecompressionStream" in page
    )


@pytest.mark.parametrize("along", [[], ["--along", "3"]])
def test_a_prompt_longer_than_the_context_is_refused_before_it_is_made(model, capsys, along):
    context = open_source(model).config.context
    assert main(["picture", "quest", "--length", str(10**20), "--model", model, *along]) == 2
    assert re.fullmatch(
        rf"error: \[lengths\] at most {context} tokens, the context of .*; 10000000000000000000\d tokens for a needle's "
        r"prompt and its answer; lower --length\n",
        capsys.readouterr().err,
    )
