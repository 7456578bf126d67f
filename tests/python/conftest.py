"""Tests write to a ledger of their own, never to the user's."""

import json

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_ledger(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VORTEX_LEDGER", str(tmp_path_factory.mktemp("ledger") / "ledger.sqlite"))
        yield


@pytest.fixture
def device_folder(tmp_path):
    """A folder of config.json alone, of the small model that a device serves."""
    from reference.device_shape import CONFIG

    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.fixture
def small_sources(monkeypatch):
    """Words and documents of our own, so that RULER's generators run without a download."""
    from vortex_attention.eval.ruler import sources
    from vortex_attention.eval.ruler.needles import WordPairs

    templates = {
        "niah": {"tokens_to_generate": 128, "template": "Some {type_needle_v} are here.\n{context}\nWhat are all {type_needle_v} of {query}?", "answer_prefix": " They are"},
        "variable_tracking": {"tokens_to_generate": 30, "template": "Track the assignments hidden here.\n{context}\nWhich have the value {query}?", "answer_prefix": " These {num_v} variables: "},
        "common_words_extraction": {"tokens_to_generate": 120, "template": "Words:\n{context}\nWhich are common?", "answer_prefix": " These:"},
        "freq_words_extraction": {"tokens_to_generate": 50, "template": "Coded: {context}\nWhich are frequent?", "answer_prefix": " These:"},
        "qa": {"tokens_to_generate": 32, "template": "Documents:\n{context}\nQuestion: {query}", "answer_prefix": " Answer:"},
    }  # fmt: skip
    documents = [f"Document text number {i} says that item {i} is in place {i * i}." for i in range(400)]
    questions = [
        {"query": f"Where is item {i}?", "outputs": [str(i * i), f"place {i * i}"], "context": [i], "more_context": []}
        for i in range(20)
    ]
    monkeypatch.setattr(sources, "templates", lambda: templates)
    monkeypatch.setattr(sources, "needle_sentence", lambda: "The {type_needle_v} of {key} is {value}.")
    monkeypatch.setattr(
        sources, "noise_sentence", lambda: "Grass grows. Rain falls. The wind blows. Night comes. Day follows."
    )
    monkeypatch.setattr(sources, "document_prompt", lambda: "[{i}] {document}")
    monkeypatch.setattr(sources, "words", lambda *kinds: [f"{kind}{i}" for kind in kinds for i in range(900)])
    monkeypatch.setattr(
        sources, "essay_words", lambda: ("It was so. Then it rained on the hill! Was it late?" * 2000).split(" ")
    )
    monkeypatch.setattr(sources, "questions", lambda _: (questions, documents))
    table_words = WordPairs([f"a{i}" for i in range(50)], [f"n{i}" for i in range(50)])
    monkeypatch.setattr("vortex_attention.eval.ruler.needles.word_pairs", lambda: table_words)
