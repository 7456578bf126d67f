"""The default model against the float64 reference's own text: 10 prompts x 64 tokens, stored with the gap between the
two likeliest tokens at every step (reference/greedy.json; reference/make_greedy.py writes it)."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from test_model import Attention
from vortex_attention import _core
from vortex_attention.engine import Generator, Sampling
from vortex_attention.models import load_model
from vortex_attention.models.weights import Weights

pytestmark = pytest.mark.slow

STORED = json.loads((Path(__file__).parent / "reference" / "greedy.json").read_text())
# Where the reference's top-two gap is above this, the model must choose the same token. Float weights: float32 sums,
# and keys and values that round to another bfloat16. The file as it is: activations are int8, a scale per 16.
GAP_FLOAT, GAP_INTEGER = 0.05, 0.3


@pytest.fixture(scope="module")
def loaded():
    return load_model("smollm2")


def forced(model, item) -> np.ndarray:
    """Logits [64, vocabulary] before each of the reference's tokens, given those before it."""
    tokens = item["prompt"] + item["tokens"]
    rows = range(len(item["prompt"]) - 1, len(tokens) - 1)
    return model.step(tokens, range(len(tokens)), Attention(model.config, tokens), rows, threads=2)


def test_the_stored_text_is_this_models(loaded):
    assert loaded.sha256 == STORED["model_sha256"]
    for item in STORED["items"]:
        tokenizer = loaded.tokenizer
        chat = item["prompt"][0] == tokenizer.bos
        again = tokenizer.encode(loaded.chat(item["text"]), control=True) if chat else tokenizer.encode(item["text"])
        assert again == item["prompt"]
        assert len(item["tokens"]) == len(item["gaps"]) == 64
    said = loaded.tokenizer.decode(STORED["items"][0]["tokens"])
    assert said.startswith("The answer to this question lies in the intricate dance of light and color.")


def test_with_float_weights_every_sure_token_is_the_references(loaded):
    weights = {}
    for name, (format, data, columns) in Weights(loaded.source.weights()).items():
        kind = gguf.GGMLQuantizationType[format.upper()]
        values = gguf.quants.dequantize(data, kind).astype(np.float32) if format != "f32" else data.view(np.float32)
        weights[name] = ("f32", np.ascontiguousarray(values.reshape(len(data), columns)).view(np.uint8), columns)
    model = _core.make_model(loaded.config, weights)
    for item in STORED["items"]:
        chosen = forced(model, item).argmax(-1)
        wrong = [(step, item["gaps"][step]) for step in range(64) if chosen[step] != item["tokens"][step]]
        print(f"{item['text'][:30]!r}: smallest gap {min(item['gaps'])}, differs at (step, gap) {wrong}")
        assert all(gap < GAP_FLOAT for _, gap in wrong)


def test_as_it_is_every_sure_token_is_the_references(loaded):
    agreed, steps = 0, 0
    for item in STORED["items"]:
        chosen = forced(loaded.model, item).argmax(-1)
        wrong = [(step, item["gaps"][step]) for step in range(64) if chosen[step] != item["tokens"][step]]
        print(f"{item['text'][:30]!r}: differs at (step, gap) {wrong}")
        assert all(gap < GAP_INTEGER for _, gap in wrong)
        agreed, steps = agreed + 64 - len(wrong), steps + 64
    print(f"{agreed} of {steps} tokens agree")
    assert agreed / steps > 0.93


def test_the_engine_writes_the_references_text_until_it_is_unsure(loaded):
    """All ten prompts in one batch, in chunks, over pages."""
    generator = Generator(loaded, memory_bytes=256 << 20, chunk_tokens=64)
    generator.stop_tokens = []
    answers = {}
    for piece in generator.stream([item["prompt"] for item in STORED["items"]], Sampling(max_tokens=64)):
        if piece.answer is not None:
            answers[piece.index] = piece.answer.tokens
    for index, item in enumerate(STORED["items"]):
        got, expected = answers[index], item["tokens"]
        same = next((step for step in range(64) if got[step] != expected[step]), 64)
        if same < 64:
            print(f"{item['text'][:30]!r}: the same for {same} tokens, then the gap is {item['gaps'][same]}")
            assert item["gaps"][same] < GAP_INTEGER
        else:
            print(f"{item['text'][:30]!r}: the same for all 64 tokens")
    generator.engine.check_integrity()
