"""Tokens of 224 hard strings, as llama.cpp makes them: under two small vocabularies, one for each way to cut text before
byte-level BPE and for SentencePiece, and under real files where they are at hand (tokenizers_data/make_expected.py)."""

import math

import numpy as np
import pytest
import vortex_attention as vx
from tokenizers_data.files import STRINGS, gguf_of, stored
from vortex_attention.fetch import cache_folder
from vortex_attention.models.byte_level import PRE_TOKENIZERS
from vortex_attention.models.fetch import fetch
from vortex_attention.models.gguf_file import GgufFile
from vortex_attention.models.tokenizer import GgufTokenizer

SMALL = {name: ("byte_level", {"pre": name}, {}) for name in PRE_TOKENIZERS} | {
    "llama": ("pieces", {}, {}),
    "llama_without_prefix": ("pieces", {}, {"add_space_prefix": False}),
}


def cleaned(text: str) -> str:
    """A lone surrogate is no character."""
    return text.encode("utf-8", "replace").decode()


def check(tokenizer, expected) -> None:
    assert len(expected["text"]) == len(STRINGS) == len(set(STRINGS)) >= 200
    for i, (text, ids) in enumerate(zip(STRINGS, expected["text"], strict=True)):
        assert tokenizer.encode(text, bos=False) == ids, f"string {i}: {text!a}"
        counted = expected["control"].get(str(i), ids)
        assert tokenizer.encode(text, bos=False, control=True) == counted, f"string {i} with control tokens: {text!a}"
    assert len(expected["control"]) >= 2


def survives(text: str, name: str) -> bool:
    """The small byte-level vocabulary lacks the byte 0xAD; SentencePiece takes its own sign for a blank."""
    return (
        "▁" not in text if name.startswith("llama") and name != "llama-bpe" else b"\xad" not in cleaned(text).encode()
    )


@pytest.fixture(params=SMALL)
def small(request, tmp_path):
    vocabulary, changes, metadata = SMALL[request.param]
    file = gguf_of(stored(vocabulary) | changes, tmp_path / "small.gguf", **metadata)
    return request.param, GgufTokenizer(GgufFile(file))


def test_ids_under_a_small_vocabulary(small):
    name, tokenizer = small
    check(tokenizer, stored(f"expected_{name}"))


def test_text_survives_and_streams_whole_characters(small):
    name, tokenizer = small
    for text in STRINGS:
        ids = tokenizer.encode(text, bos=False)
        assert not set(ids) & set(tokenizer.control.values()), f"{text!a} makes a control token"
        assert tokenizer.decode(ids) == cleaned(text) or not survives(text, name)
        stream = tokenizer.stream()
        pieces = [stream.push(token) for token in ids] + [stream.finish()]
        assert "".join(pieces).encode("utf-8").decode() == tokenizer.decode(ids)


def test_bos_and_eos_as_the_file_says(tmp_path):
    def opened(vocabulary, name="x", **metadata):
        return GgufTokenizer(GgufFile(gguf_of(stored(vocabulary), tmp_path / f"{name}.gguf", **metadata)))

    pieces = opened("pieces")
    assert pieces.encode("") == [pieces.bos] and pieces.encode("", bos=False) == []
    assert pieces.encode("a", eos=True) == pieces.encode("a"), "eos only where the file says so"
    both = opened("pieces", add_eos_token=True)
    assert both.encode("a", eos=True) == [*pieces.encode("a"), both.eos]
    assert opened("pieces", add_bos_token=False).encode("a") == pieces.encode("a", bos=False)
    assert pieces.encode("<s>a", control=True) == pieces.encode("<s>a", control=True, bos=False), "bos once"
    words = opened("byte_level")
    assert words.encode("a") == [words.bos, *words.encode("a", bos=False)], "llama-bpe begins with bos"
    assert words.stop_tokens == [words.eos, words.control["<|eot_id|>"]][:1]
    assert pieces.stop_tokens == [pieces.eos, pieces.control["<|im_end|>"]]


def test_what_is_refused(tmp_path):
    def words(vocabulary, **changes):
        with pytest.raises(vx.UserError) as error:
            GgufTokenizer(GgufFile(gguf_of(stored(vocabulary) | changes, tmp_path / "x.gguf")))
        return str(error.value)

    names = "one of the pre-tokenizers gpt-2, smollm, qwen2, llama-bpe"
    assert words("byte_level", pre="qwen") == f"[x.gguf] {names}; got tokenizer.ggml.pre = qwen; did you mean qwen2?"
    assert words("byte_level", pre="viking").startswith(
        f"[x.gguf] {names}; got tokenizer.ggml.pre = viking; use another model"
    )
    assert f"{names}; the file has no tokenizer.ggml.pre; use" in words("byte_level", pre="")
    kinds = "a vocabulary of one of the kinds gpt2 (byte-level BPE), llama (SentencePiece BPE)"
    assert words("pieces", model="t5") == f"[x.gguf] {kinds}; got tokenizer.ggml.model = t5; use another model"
    pieces = stored("pieces")
    assert "a number as the score of each token; got 1 scores for" in words("pieces", scores=[0.0])
    assert "or one that is no number" in words("pieces", scores=[float("nan")] * len(pieces["tokens"]))
    no_bytes = [1 if kind in (2, 6) else kind for kind in pieces["types"]]
    assert "a token for each byte, or one for what is unknown; got 0 bytes" in words("pieces", types=no_bytes)
    assert "merges of tokens in the vocabulary" in words("byte_level", merges=["zz qq"])
    assert "a vocabulary of distinct texts" in words("pieces", tokens=["a"] * len(pieces["tokens"]))


def test_a_model_with_more_rows_than_tokens(tmp_path):
    tokenizer = GgufTokenizer(GgufFile(gguf_of(stored("byte_level"), tmp_path / "x.gguf")))
    count = tokenizer.vocabulary
    with pytest.raises(vx.UserError, match=f"tokens from 0 to {count - 1}; got {count}"):
        tokenizer.decode([count])
    tokenizer.cover(count + 64)
    assert tokenizer.decode([*tokenizer.encode("hi"), count, count + 63]) == "hi"
    with pytest.raises(vx.UserError, match=f"tokens from 0 to {count + 63}; got {count + 64}"):
        tokenizer.decode([count + 64])


@pytest.mark.parametrize("name", ["byte_level", "pieces"])
def test_damaged_vocabularies_are_refused_or_work(name, tmp_path):
    """Tokens, types, scores and merges exchanged, left out, repeated, or of another kind: never anything but a UserError."""
    file, random = GgufFile(gguf_of(stored(name), tmp_path / "x.gguf")), np.random.default_rng(3)
    whole = file.metadata
    odd = ["", "a", "a b c", 0, 7, -1, 2**63, 1e30, math.nan, math.inf, True, "<0x41>", "<0xZZ>", " ", "\x00"]
    lists = [key for key in whole if isinstance(whole[key], list)]
    works = 0
    for attempt in range(150):
        file.metadata = dict(whole)
        key = lists[random.integers(len(lists))] if attempt % 3 else list(whole)[random.integers(len(whole))]
        if not isinstance(whole[key], list):
            file.metadata[key] = odd[random.integers(len(odd))]
        else:
            values = list(whole[key])
            for i in random.integers(len(values) - 1, size=random.integers(1, 4)):
                match random.integers(4):
                    case 0:
                        values[i] = odd[random.integers(len(odd))]
                    case 1:
                        del values[-1 - i]
                    case 2:
                        values.insert(i, values[random.integers(len(values))])
                    case 3:
                        values[i], values[i + 1] = values[i + 1], values[i]
            file.metadata[key] = values
        try:
            tokenizer = GgufTokenizer(file)
        except vx.UserError:
            continue
        works += 1
        tokenizer.decode(tokenizer.encode("hello <s> 1234 é👍<|eot_id|>", control=True, eos=True))
        tokenizer.decode(range(tokenizer.vocabulary))
    assert works > 3


def test_an_unused_piece_is_taken_apart_and_unknown_letters_have_their_token(tmp_path):
    tokens = ["<unk>", "a", "b", "ab", "abb", "▁"]
    vocabulary = {
        "model": "llama",
        "tokens": tokens,
        "types": [2, 1, 1, 5, 1, 1],
        "scores": [0, -9, -9, -1, -2, -9],
        "bos": 0,
        "eos": 0,
    }
    vocabulary["scores"] = [float(score) for score in vocabulary["scores"]]
    tokenizer = GgufTokenizer(
        GgufFile(gguf_of(vocabulary, tmp_path / "x.gguf", add_bos_token=False, add_space_prefix=False))
    )
    assert [tokens[i] for i in tokenizer.encode("ab abb?")] == ["a", "b", "▁", "abb", "<unk>"]
    assert tokenizer.decode(tokenizer.encode("ab abb?")) == "ab abb"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm", "qwen2"])
def test_ids_under_the_real_vocabulary(name):
    if name == "smollm":
        path = fetch("smollm2")
    else:
        files = [file for file in cache_folder("models").glob("*.gguf") if "qwen2.5-coder-1.5b" in file.name.lower()]
        if not files:
            pytest.skip("Qwen2.5-Coder-1.5B-Instruct is not in the cache of models")
        path = files[0]
    check(GgufTokenizer(GgufFile(path)), stored(f"expected_real_{name}"))
