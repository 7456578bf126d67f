"""Damaged models: a Hugging Face folder with a file of it changed, or a GGUF file. Each ends in a UserError, or in a model of which config, memory,
tokenizer and chat template can be used and which runs a step.

PYTHONPATH=python:tests/python python tests/fuzz/models.py [--runs N] [--seed S]      N changes of every file, the same for the same seed
PYTHONPATH=python:tests/python python tests/fuzz/models.py --guided -max_total_time=300   guided by coverage; needs `pip install atheris`
"""

import argparse
import pathlib
import random
import shutil
import sys
import tempfile

import numpy as np
from damage import damaged, damaged_json, outcome

if "--guided" in sys.argv:
    import atheris

    with atheris.instrument_imports(include=["vortex_attention.models", "vortex_attention.formats"]):
        from vortex_attention.models import load_model
else:
    from vortex_attention.models import load_model

TEXT = "Hello <|im_end|> wor\u00e9 \U0001f600 123\n\n"


def seeds(folder: pathlib.Path) -> dict[str, list[str]]:
    """Whole models below the folder: the path of each, and the files of it that are damaged."""
    from reference.random_folder import random_folder
    from reference.random_model import random_llama
    from test_folder_tokenizer import byte_level, pieces
    from tokenizers_data.files import stored

    random_llama(folder / "bytes.gguf", layers=1)
    words = stored("pieces")

    def sentencepiece(writer) -> None:
        writer.kv_data[0].pop("tokenizer.ggml.merges")
        for key, add, value in (
            ("model", writer.add_tokenizer_model, "llama"),
            ("tokens", writer.add_token_list, words["tokens"]),
            ("token_type", writer.add_token_types, words["types"]),
            ("scores", writer.add_token_scores, words["scores"]),
        ):
            writer.kv_data[0].pop(f"tokenizer.ggml.{key}", None)
            add(value)

    random_llama(folder / "pieces.gguf", layers=1, change=sentencepiece)
    sizes = dict(num_hidden_layers=1, hidden_size=32, head_dim=16, intermediate_size=32)
    scaled = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    byte_level(random_folder(folder / "plain", **sizes, shards=2, rope_scaling=scaled))
    pieces(
        random_folder(folder / "fp8", "qwen3_moe", format="F8_E4M3", block=(16, 16), **sizes, moe_intermediate_size=16),
        "always",
    )
    return {
        "bytes.gguf": [""],
        "pieces.gguf": [""],
        **{name: sorted(file.name for file in (folder / name).iterdir()) for name in ("plain", "fp8")},
    }


def use(path: pathlib.Path) -> None:
    loaded = load_model(path, threads=1)
    tokens = loaded.tokenizer.encode(TEXT, control=True)
    assert all(0 <= token < loaded.tokenizer.vocabulary for token in tokens), tokens
    assert isinstance(loaded.tokenizer.decode(tokens), str)
    for token in range(min(loaded.tokenizer.vocabulary, 2000)):
        loaded.tokenizer.token_bytes(token)
    if loaded.chat_template is not None:
        loaded.chat_template.encode([{"role": "user", "content": TEXT}])
    known = [token for token in tokens if token < loaded.config.vocabulary][:3] or [0]
    width = loaded.config.attention.value_dim
    zeros = lambda layer, q, k, v: np.zeros((*q.shape[:2], width), np.float32)  # noqa: E731
    loaded.model.step(known, list(range(len(known))), zeros, [0])


def try_one(whole: pathlib.Path, name: str, file: str, data: bytes) -> str:
    """The model of that name with one file replaced."""
    path = whole / name / file if file else whole / name
    kept = path.read_bytes()
    try:
        path.write_bytes(data)
        return outcome(lambda: use(whole / name))
    finally:
        path.write_bytes(kept)


def run(folder: pathlib.Path, runs: int, seed: int) -> dict[str, int]:
    """How many of the damaged models of each file were usable all the same."""
    chance, survived = random.Random(seed), {}
    for name, files in seeds(folder).items():
        use(folder / name)
        for file in files:
            data = (folder / name / file if file else folder / name).read_bytes()
            count = 0
            for i in range(runs):
                ways = [damaged_json, damaged] if file.endswith(".json") else [damaged]
                changed = ways[i % len(ways)](data, chance)
                try:
                    count += try_one(folder, name, file, changed) == "read"
                except BaseException:
                    left = pathlib.Path(f"fuzz-failure-{name}{'-' + file if file else ''}")
                    left.write_bytes(changed)
                    print(f"left in {left}", file=sys.stderr)
                    raise
            survived[f"{name}/{file}" if file else name] = count
    return survived


def guided(folder: pathlib.Path, arguments: list[str]) -> None:
    """An input is the number of a file, then what stands in it."""
    places = [(name, file) for name, files in seeds(folder).items() for file in files]
    corpus = folder.parent / f"{folder.name}-corpus"
    corpus.mkdir()
    for i, (name, file) in enumerate(places):
        (corpus / str(i)).write_bytes(bytes([i]) + (folder / name / file if file else folder / name).read_bytes())

    def one(data: bytes) -> None:
        if data:
            try_one(folder, *places[data[0] % len(places)], data[1:])

    try:
        atheris.Setup([sys.argv[0], *arguments, "-max_len=200000", str(corpus)], one)
        atheris.Fuzz()
    finally:
        shutil.rmtree(corpus)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guided", action="store_true")
    known, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        if known.guided:
            guided(pathlib.Path(folder), others)
        survived = run(pathlib.Path(folder), known.runs, known.seed)
        print(f"{known.runs} of each, seed {known.seed}; usable all the same: {survived}")


if __name__ == "__main__":
    main()
