"""Tests of suites run on a tiny random model, with a text and a cache of their own."""

import pytest
from reference.random_model import random_llama
from small_suites import TEXT
from vortex_attention.cli import measure
from vortex_attention.ledger import Ledger


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048)


@pytest.fixture(autouse=True)
def own_text_and_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "natural_text", lambda: TEXT)
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened
