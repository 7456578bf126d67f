"""The report page: whole, self-contained, and safe against hostile names."""

import re

import pytest

from vortex_attention.errors import UserError
from vortex_attention.report import write_report
from vortex_attention.report.page import render


def interval(center, half=0.1):
    return {"center": center, "low": center - half, "high": center + half, "count": 8}


def result(name="quest", doc="An upper bound."):
    def accuracy(arm, log_probability):
        return {
            "name": arm,
            "exact": interval(1.0),
            "log_probability": interval(log_probability),
            "loss": interval(0.0),
            "kl": interval(0.05),
            "attended_tokens": 32.0,
            "outcomes": [
                {"log_probability": log_probability - 0.1 * i, "exact": True, "kl": 0.1, "attended_tokens": 32.0}
                for i in range(2)
            ],
        }

    def speed(arm, ratio):
        return {
            "name": arm,
            "milliseconds": 12.5,
            "ratio": ratio,
            "share_of_light": 0.8,
            "tokens_per_second": 640.0,
            "parts": {"score": 0.002, "attend": 0.004},
            "floor_milliseconds": 10.0,
            "spread": interval(12.5),
        }

    return {
        "schema": 1,
        "headline": "quest decodes 3.10× as fast.",
        "threads": 2,
        "read_gigabytes_per_second": 24.0,
        "controls": ["random_pages"],
        "provenance": {"date": "2026-01-01", "device": "a machine", "commit": "abc", "dirty": False},
        "model": {"name": "tiny", "sha256": "0" * 64},
        "flows": [{"name": name, "doc": doc, "source": "class Quest: ...", "hash": "1", "config": "budget=32"}],
        "accuracy": {
            "length": 2048,
            "items": [{"depth": 0.25}, {"depth": 0.75}],
            "arms": [accuracy("full", -0.1), accuracy(name, -0.2), accuracy("random_pages", -3.0)],
        },
        "speed": [
            {
                "batch": 8,
                "context": context,
                "arms": [speed("full", None), speed(name, interval(3.1)), speed("random_pages", interval(3.5))],
            }
            for context in (2048, 7500)
        ],
        "selection": {"flow": name, "share": [[1.0, 0.0, 0.5], [0.0, 1.0, 1.0]], "needle_page": 1},
    }


def test_page_holds_table_pictures_and_provenance():
    page = render(result())
    assert "quest decodes 3.10× as fast." in page
    assert page.count("plotly-graph-div") >= 5
    assert "3.10 <span class=note>[3.00, 3.20]</span>" in page
    assert "commit\nabc" in page
    assert "<tr class=control><td>random_pages</td>" in page


def test_page_loads_nothing_from_outside():
    page = render(result())
    assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)\s*=\s*"?https?:', page)


def test_hostile_names_are_escaped():
    hostile = "<img src=x onerror=alert(1)>"
    page = render(result(name=hostile, doc="</p><script>alert(2)</script>"))
    assert "<img src=x" not in page.replace("\\u003cimg src=x", "")
    assert "<script>alert(2)" not in page


def test_a_partial_result_is_refused():
    partial = result()
    partial["speed"] = []
    with pytest.raises(UserError, match=r"\[report\] a result with accuracy and speed; a partial one"):
        render(partial)


def test_writing_replaces_the_old_report_whole(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(result(), path)
    assert path.read_text().startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    broken = result()
    del broken["model"]
    with pytest.raises(KeyError):
        write_report(broken, path)
    assert path.read_text().startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
