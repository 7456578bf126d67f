"""GGUF files made to harm: every field of a tensor at its extremes in every weight format, damaged vocabularies, random weights. Each ends
at once in a UserError of our words, or in a model that runs."""

import struct
import time

import gguf
import numpy as np
import pytest
from reference.random_model import TYPES, random_llama

import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.models import load_model
from vortex_attention.models.gguf_file import FORMATS, OTHER_TYPES, GgufFile
from vortex_attention.models.gguf_source import hf_name

NUMBERS = [0, 1, 31, 33, 255, 257, 2**31 - 1, 2**32, 2**53, 2**60, 2**61, 2**63 - 1, 2**63, 2**64 - 1]


def outcome(path) -> str:
    """ "loaded", or the words of the refusal; anything else fails."""
    started = time.monotonic()
    try:
        loaded = load_model(path)
        zeros = lambda layer, q, k, v: np.zeros_like(q)  # noqa: E731
        loaded.model.step([1, 2], [0, 1], zeros, [1])
        words = "loaded"
    except vx.UserError as error:
        words = str(error)
    assert time.monotonic() - started < 10
    return words


def info_of(data: bytes, name: str) -> int:
    """Where the tensor's dimensions begin."""
    key = struct.pack("<Q", len(name)) + name.encode()
    return data.index(key) + len(key)


@pytest.mark.parametrize("format", TYPES)
def test_every_field_of_a_tensor_at_its_extremes(tmp_path, format):
    """Dimensions, type and offset of a matrix: sizes that overflow 64 bits, offsets outside the file, other types."""
    whole = random_llama(tmp_path / "whole.gguf", format=format, layers=1).read_bytes()
    assert outcome(tmp_path / "whole.gguf") == "loaded"
    at = info_of(whole, "blk.0.ffn_up.weight")
    count = struct.unpack_from("<I", whole, at)[0]
    assert count == 2
    columns, rows, kind, offset = at + 4, at + 12, at + 20, at + 24
    file = tmp_path / "hostile.gguf"

    def refusal(*changes) -> str:
        damaged = bytearray(whole)
        for where, layout, value in changes:
            struct.pack_into(layout, damaged, where, value)
        file.write_bytes(damaged)
        return outcome(file)

    def named(words: str) -> bool:
        return "blk.0.ffn_up.weight" in words or "layers.0.mlp.up_proj.weight" in words

    for number in NUMBERS:
        for field in (columns, rows):
            if struct.unpack_from("<Q", whole, field)[0] != number:
                assert named(refusal((field, "<Q", number))), number
        assert named(refusal((columns, "<Q", number), (rows, "<Q", number))), number
        if number not in (0, struct.unpack_from("<Q", whole, offset)[0]):
            assert "blk.0.ffn_up" in refusal((offset, "<Q", number)), number
    for number in [*range(64), 2**31, 2**32 - 1]:
        words = refusal((kind, "<I", number))
        if number in FORMATS:
            assert words == "loaded" or named(words), number
        else:
            assert f"blk.0.ffn_up.weight is in {OTHER_TYPES.get(number, f'type {number}')}" in words
    for number in (0, 5, 2**31, 2**32 - 1):
        assert "1 to 4 dimensions for the tensor blk.0.ffn_up.weight" in refusal((at, "<I", number))


@pytest.mark.parametrize("format", TYPES)
def test_random_weights_run(tmp_path, format):
    """Scales that are infinite or no numbers: logits that are no numbers, and nothing worse."""
    path = random_llama(tmp_path / "tiny.gguf", format=format, layers=1)
    data = bytearray(path.read_bytes())
    reader = gguf.GGUFReader(path)
    rng = np.random.default_rng(4)
    for tensor in reader.tensors:
        data[tensor.data_offset : tensor.data_offset + tensor.n_bytes] = rng.bytes(tensor.n_bytes)
    path.write_bytes(data)
    assert outcome(path) == "loaded"
    bench = _core.Workbench(load_model(path).model, pages=16, threads=1, max_batch=1)
    sequence = bench.prefill([1, 2, 3])
    bench.decode([sequence], [4])
    bench.check_integrity()


def test_vocabularies_that_cannot_be(tmp_path):
    def with_keys(change) -> str:
        return outcome(random_llama(tmp_path / "words.gguf", layers=1, change=change))

    def replaced(key, value, kind=gguf.GGUFValueType.ARRAY, sub_type=None):
        def change(writer):
            writer.kv_data[0].pop(key)
            writer.add_key_value(key, value, kind, sub_type)

        return change

    texts = dict(sub_type=gguf.GGUFValueType.STRING)
    assert with_keys(lambda writer: None) == "loaded"
    for words, change in {
        "got 1 tokens, 1 of them distinct, and 268 types": replaced("tokenizer.ggml.tokens", ["a"], **texts),
        "got 268 tokens, 268 of them distinct, and 2 types": replaced("tokenizer.ggml.token_type", [1, 1]),
        "merges of tokens in the vocabulary": replaced("tokenizer.ggml.merges", ["no such pieces at all"], **texts),
        "tokenizer.ggml.eos_token_id": replaced("tokenizer.ggml.eos_token_id", -1, gguf.GGUFValueType.INT32),
        "tokenizer.ggml.bos_token_id": replaced("tokenizer.ggml.bos_token_id", 2**40, gguf.GGUFValueType.UINT64),
    }.items():
        assert words in with_keys(change), words
    assert "tokenizer.ggml.tokens" in with_keys(replaced("tokenizer.ggml.tokens", 7, gguf.GGUFValueType.UINT32))

    whole = (tmp_path / "words.gguf").read_bytes()
    key = b"tokenizer.ggml.tokens"
    with_keys(lambda writer: None)
    whole = (tmp_path / "words.gguf").read_bytes()
    count_at = whole.index(key) + len(key) + 8
    for number in (2**24, 2**40, 2**61, 2**64 - 1):
        damaged = bytearray(whole)
        struct.pack_into("<Q", damaged, count_at, number)
        (tmp_path / "words.gguf").write_bytes(damaged)
        assert "texts of tokenizer.ggml.tokens that fit the file" in outcome(tmp_path / "words.gguf")


def test_settings_that_cannot_be(tmp_path):
    """Sizes beyond every model, of which memory would be asked for."""
    for key in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length"):
        for number in (0, 2**31, 2**63, 2**64 - 1):

            def change(writer, key=f"llama.{key}", number=number):
                writer.kv_data[0].pop(key)
                writer.add_key_value(key, number, gguf.GGUFValueType.UINT64)

            words = outcome(random_llama(tmp_path / "huge.gguf", layers=1, change=change))
            assert words != "loaded", (key, number)


def test_tensors_that_overlap_are_only_read(tmp_path):
    """Two tensors may share bytes; nothing is written to the file's memory."""
    path = random_llama(tmp_path / "tiny.gguf", layers=1)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    up, gate = (info_of(whole, f"blk.0.ffn_{name}.weight") + 24 for name in ("up", "gate"))
    damaged[up : up + 8] = damaged[gate : gate + 8]
    path.write_bytes(damaged)
    assert outcome(path) == "loaded" and path.read_bytes() == bytes(damaged)
    assert GgufFile(path).tensors["blk.0.ffn_up.weight"].data.flags.writeable is False


def test_a_layer_of_many_digits_is_no_layer():
    """Which Python would not read as a number."""
    name = f"blk.{'1' * 5000}.attn_q.weight"
    assert hf_name(name) == name and hf_name("blk.12.attn_q.weight") == "model.layers.12.self_attn.q_proj.weight"
