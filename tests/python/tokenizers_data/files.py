"""The tokenizers' test data: hard strings, two small vocabularies, and what llama.cpp makes of the strings
(make_expected.py writes all but the strings). `gguf_of` writes a vocabulary as a GGUF file without tensors."""

import json
from pathlib import Path

import gguf

FOLDER = Path(__file__).parent
STRINGS: list[str] = json.loads((FOLDER / "hard_strings.json").read_text())


def stored(name: str):
    return json.loads((FOLDER / f"{name}.json").read_text())


def gguf_of(vocabulary: dict, path: Path, **metadata) -> Path:
    """vocabulary: {"model", "pre"?, "tokens", "types", "scores"?, "merges"?, "bos", "eos"}; metadata: more keys of
    tokenizer.ggml."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(vocabulary["model"])
    if "pre" in vocabulary:
        writer.add_tokenizer_pre(vocabulary["pre"])
    writer.add_token_list(vocabulary["tokens"])
    writer.add_token_types(vocabulary["types"])
    if "scores" in vocabulary:
        writer.add_token_scores(vocabulary["scores"])
    if "merges" in vocabulary:
        writer.add_token_merges(vocabulary["merges"])
    writer.add_bos_token_id(vocabulary["bos"])
    writer.add_eos_token_id(vocabulary["eos"])
    for key, value in metadata.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_string
        add(f"tokenizer.ggml.{key}", value)
    # What llama.cpp asks of any file; nothing here depends on it.
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path
