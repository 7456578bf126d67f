"""The ready flows: the text of their programs, their shape, and pictures of the pages they read."""

import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import numpy as np
import pytest
from reference.random_model import random_llama

import vortex_attention as vx
from vortex_attention import _core, flows
from vortex_attention.eval.attended import attended
from vortex_attention.models import load_model
from vortex_attention.report.pages import pages_svg, runs

ROOT = Path(__file__).resolve().parents[2]


def test_the_texts_of_their_programs_are_fresh():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "ready_flows.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "the texts of the ready flows are fresh\n", done.stdout + done.stderr


@pytest.mark.parametrize("name", flows.names())
def test_a_ready_flow_is_a_few_lines_and_says_what_it_is(name):
    flow = flows.load(name)
    lines = [line for line in flow.source.splitlines() if line.strip()]
    assert 5 <= len(lines) <= 40 and flow.doc and len(flow.doc.splitlines()[0]) > 20
    assert flow.program.verify() is None


def test_latent_content_leaves_the_rope_channels_out():
    """On keys of 8 channels, 5 of them those of a value: a change of the other 3 changes no score."""
    program = flows.load_flow("latent_content")
    random = np.random.default_rng(1)
    k, q = random.normal(size=(4, 16, 8)), random.normal(size=(3, 8))
    values = np.ascontiguousarray(k[:, :, :5])

    def scores(keys, query):
        made = [_core.interpret_summaries(program, key, value) for key, value in zip(keys, values)]
        stacked = {name: np.stack([one[name] for one in made]) for name in made[0]}
        return _core.interpret_scores(program, query, stacked, [1, 2, 3, 4], value_dim=5)

    other_k, other_q = k.copy(), q.copy()
    other_k[:, :, 5:], other_q[:, 5:] = 7.0, -3.0
    assert np.array_equal(scores(k, q), scores(other_k, other_q))
    logit = k[:, :, :5].mean(1) @ q[:, :5].T
    share = np.exp(logit - logit.max(0))
    np.testing.assert_allclose(scores(k, q), (share / share.sum(0)).sum(-1), rtol=1e-12)


def test_representatives_are_keys_of_the_page():
    program = flows.load_flow("representatives")
    k = np.random.default_rng(2).normal(size=(16, 6))
    keys = _core.interpret_summaries(program, k, k)["keys"]
    assert keys.shape == (4, 6)
    for i, key in enumerate(keys):
        run = k[4 * i : 4 * i + 4]
        np.testing.assert_allclose(key, run[np.argmax(run @ k.mean(0))], rtol=1e-12)


LISTS = [[[0, 1, 5, 8, 9], [0, 8, 9]], [[0, 2, 3, 4, 9], [0, 9]]]


def test_a_picture_holds_every_page_once():
    text = pages_svg("<quest> & more", LISTS, 10, (1, 2), 16, needle=5)
    root = xml.fromstring(text)
    assert root.find("{*}title").text == "<quest> & more"
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    marks = "".join(path.get("d") for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("fill"))
    widths = [float(part.split("v")[0]) for part in marks.split("h") if "v" in part]
    pages = sum(len(row) for layer in LISTS for row in layer)
    assert sum(widths) == pytest.approx(pages * (960 - 64 - 12) / 10, abs=1)
    assert "page 9" in text and "layer 1" in text and "#D55E00" in text


@pytest.mark.parametrize("name", flows.names())
def test_every_ready_flow_has_a_picture(name):
    root = xml.fromstring((ROOT / "docs" / "pictures" / "pages" / f"{name}.svg").read_text())
    assert root.find("{*}title").text.startswith(f"{name}: ")
    assert f"(pictures/pages/{name}.svg)" in (ROOT / "docs" / "flows.md").read_text()


def test_runs():
    assert runs([0, 1, 2, 7]) == [(0, 3), (7, 8)] and runs([]) == []


def test_the_pages_drawn_are_those_attended(tmp_path):
    loaded = load_model(random_llama(tmp_path / "tiny.gguf", seed=4), threads=1)
    bench = _core.Workbench(loaded.model, page_size=16, pages=128, max_batch=2, threads=1)
    base = bench.prefill([int(t) for t in np.random.default_rng(3).integers(0, loaded.config.vocabulary, 400)])
    shape = loaded.config.layers, loaded.config.kv_heads
    seen = attended(bench, base, flows.load_flow("quest", budget=8), 5, shape, 100)
    assert (seen.pages, seen.pinned, seen.page_size, seen.needle_page) == (26, (1, 2), 16, 6)
    assert seen.share == pytest.approx(8 / 26)
    assert [len(layer) for layer in seen.lists] == [shape[1]] * shape[0]
    assert all({0, 24, 25} < set(row) and len(row) == 8 for layer in seen.lists for row in layer)
    assert bench.check_integrity() is None


class Position(vx.vFlow):
    """The mean latent, its RoPE channels alone."""

    budget = 8

    def summarize(self, page):
        page.mean = page.k.rope().mean("token")

    def score(self, q, page):
        return vx.dot(q.rope(), page.mean, over="dim").softmax("page").sum("head")


@pytest.mark.parametrize(
    "program, channels", [(flows.load_flow("latent_content"), slice(0, 48)), (vx.trace(Position), slice(48, 64))]
)
def test_parts_of_a_latent_on_the_cpu_backend(program, channels):
    random = np.random.default_rng(4)
    k, q = random.standard_normal((70, 16, 64), np.float32), random.standard_normal((5, 64), np.float32) / 4
    fast = _core.cpu_flow(program, 64, 5, value_dim=48)
    summaries = fast.summarize(k, np.ascontiguousarray(k[:, :, :48]))
    np.testing.assert_allclose(summaries["mean"].astype(float), k[:, :, channels].mean(1), rtol=0.01, atol=0.01)
    wide = {name: value.astype(float) for name, value in summaries.items()}
    expected = _core.interpret_scores(program, q.astype(float), wide, list(range(1, 71)), value_dim=48)
    np.testing.assert_allclose(fast.scores(q, summaries), expected, rtol=1e-4)
