"""Writes what test_tokenizer_ids.py compares with: two small vocabularies (trained with the tokenizers and sentencepiece
libraries on this project's documentation and the hard strings), and the tokens that llama.cpp makes of every hard string
under them and under real files.

usage: make_expected.py [PRE=FILE.gguf ...]   real files by their pre-tokenizer, such as smollm=model.gguf
Needs llama-cpp-python and sentencepiece, which the project itself does not. Written with llama-cpp-python 0.3.36,
sentencepiece 0.2.3, tokenizers 0.23.3, for SmolLM2-135M-Instruct and Qwen2.5-Coder-1.5B-Instruct (docs/data.md).
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import llama_cpp
import sentencepiece
import tokenizers
from tokenizers_data.files import FOLDER, STRINGS, gguf_of, stored
from tokenizers import pre_tokenizers, trainers

from vortex_attention.models.byte_level import PRE_TOKENIZERS

CORPUS = [path.read_text() for path in sorted((FOLDER.parents[2] / "docs").glob("*.md"))]
CONTROL, DEFINED = ["<|begin_of_text|>", "<|eot_id|>", "<|im_start|>"], ["<think>", "</think>", "  \n"]


def byte_level() -> dict:
    """A byte-level vocabulary, trained on text cut as llama-bpe cuts; no merge reaches its last words, and it lacks a byte."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS["llama-bpe"]())
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {"Ń"})
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*CORPUS, *(text.encode("utf-8", "replace").decode() for text in STRINGS)], trainer)
    described = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(described["vocab"], key=described["vocab"].get)
    tokens = [token for token in tokens if token != "Ń"]
    merges = [" ".join(merge) for merge in described["merges"]]
    tokens += ["Ġunreachable", "unreachable", "1234", "ðŁĳį"]
    types = [1] * len(tokens) + [3] * len(CONTROL) + [4] * len(DEFINED)
    tokens += CONTROL + DEFINED
    bos, eos = tokens.index("<|begin_of_text|>"), tokens.index("<|eot_id|>")
    return {
        "model": "gpt2",
        "pre": "llama-bpe",
        "tokens": tokens,
        "types": types,
        "merges": merges,
        "bos": bos,
        "eos": eos,
    }


def pieces() -> tuple[dict, sentencepiece.SentencePieceProcessor]:
    """SentencePiece BPE with byte fallback, texts taken as they are."""
    made = io.BytesIO()
    texts = [line for text in [*CORPUS, *STRINGS] for line in text.encode("utf-8", "replace").decode().splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in texts if line and "\0" not in line and len(line) < 4000),
        model_writer=made,
        model_type="bpe",
        vocab_size=1000,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["<think>", "</think>"],
        control_symbols=["<|im_end|>"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    count = model.get_piece_size()
    kind = lambda i: (  # noqa: E731
        2
        if model.is_unknown(i)
        else 3
        if model.is_control(i)
        else 6
        if model.is_byte(i)
        else 5
        if model.is_unused(i)
        else 1
    )
    vocabulary = {
        "model": "llama",
        "tokens": [model.id_to_piece(i) for i in range(count)],
        "scores": [round(model.get_score(i), 4) for i in range(count)],
        "types": [4 if model.id_to_piece(i) in ("<think>", "</think>") else kind(i) for i in range(count)],
        "bos": model.bos_id(),
        "eos": model.eos_id(),
    }
    return vocabulary, model


def expected(path: Path, add_special: bool = False) -> dict:
    """{"text": ids of each string, "control": those that differ where control tokens count, by index}."""
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)

    def ids(text: str, special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        return model.tokenize(data, add_bos=add_special, special=special) if data else []

    plain = [ids(text, False) for text in STRINGS]
    special = {i: got for i, text in enumerate(STRINGS) if (got := ids(text, True)) != plain[i]}
    return {"text": plain, "control": special}


def write(name: str, value: dict) -> None:
    lines = [f" {json.dumps(key)}: {compact(item)}" for key, item in value.items()]
    (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def compact(value) -> str:
    return json.dumps(value, separators=(",", ":"))


def main(real: list[str]) -> None:
    work = Path(tempfile.mkdtemp())
    write("byte_level", byte_level())
    vocabulary, model = pieces()
    write("pieces", vocabulary)
    for pre in PRE_TOKENIZERS:
        write(f"expected_{pre}", expected(gguf_of(stored("byte_level") | {"pre": pre}, work / f"{pre}.gguf")))
    spm = expected(gguf_of(stored("pieces"), work / "pieces.gguf"))
    write("expected_llama", spm)
    bare = expected(gguf_of(stored("pieces"), work / "bare.gguf", add_space_prefix=False))
    write("expected_llama_without_prefix", bare)
    for i, text in enumerate(STRINGS):  # a second opinion; it puts a blank before the text, but not after <think>
        theirs = model.encode(text.encode("utf-8", "replace").decode())
        if theirs != spm["text"][i]:
            print(f"sentencepiece differs on {text!a}: {theirs} {spm['text'][i]}")
    for name, _, path in (item.partition("=") for item in real):
        write(f"expected_real_{name}", expected(Path(path)))


if __name__ == "__main__":
    main(sys.argv[1:])
