"""The VORTEX_* variables as Python sees them."""

import os
import pathlib
import re

import pytest
import vortex_attention as vx
from vortex_attention import _core


def test_a_variable_is_read_when_asked(monkeypatch):
    monkeypatch.delenv("VORTEX_CACHE", raising=False)
    assert _core.env("VORTEX_CACHE") == "~/.cache/vortex-attention"
    monkeypatch.setenv("VORTEX_CACHE", "/somewhere")
    assert _core.env("VORTEX_CACHE") == "/somewhere"


def test_how_many_threads(monkeypatch):
    monkeypatch.setenv("VORTEX_THREADS", "3")
    assert (_core.thread_count(), _core.thread_count(5)) == (3, 5)
    monkeypatch.delenv("VORTEX_THREADS")
    assert 1 <= _core.thread_count() <= len(os.sched_getaffinity(0))
    for name in ("abc", "-1", "1e9"):
        monkeypatch.setenv("VORTEX_THREADS", name)
        with pytest.raises(
            vx.UserError, match=rf"^\[VORTEX_THREADS\] a whole number from 0 to 4096; got '{name}'; change"
        ):
            _core.thread_count()
    with pytest.raises(
        vx.UserError, match=r"^\[threads\] a number of threads from 1 to 4096, or 0 for all cores; got -1"
    ):
        _core.thread_count(-1)


def test_unknown_variables_are_reported_with_the_nearest_name(monkeypatch):
    monkeypatch.setenv("VORTEX_CASHE", "/somewhere")
    assert any(
        "VORTEX_CASHE is unknown and has no effect; did you mean VORTEX_CACHE?" in line for line in _core.unknown_env()
    )


def test_the_debug_ladder_has_four_rungs():
    before = _core.debug_level()
    with pytest.raises(vx.UserError, match=r"^\[debug level\] 0 to 3; got 4; 1 prints names and times"):
        _core.set_debug_level(4)
    _core.set_debug_level(before)


def test_the_docs_list_the_same_variables():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "development.md").read_text()
    rows = re.findall(r"^\| `(VORTEX_\w+)` \| `(.*?)` \| (.*?) \|$", text, re.MULTILINE)
    assert rows == _core.env_table()
