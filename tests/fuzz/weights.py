"""Damaged weight files for our readers of GGUF and safetensors: each ends in a UserError, or in tensors that can be read.

PYTHONPATH=python:tests/python python tests/fuzz/weights.py [--runs N] [--seed S]      mutations of small files, the same for the same seed
PYTHONPATH=python:tests/python python tests/fuzz/weights.py --guided -max_total_time=300   guided by coverage; needs `pip install atheris`
"""

import argparse
import json
import pathlib
import random
import struct
import sys
import tempfile

import numpy as np
from damage import damaged, outcome


if "--guided" in sys.argv:
    import atheris

    with atheris.instrument_imports(include=["vortex_attention.models", "vortex_attention.formats"]):
        from vortex_attention.models.gguf_file import GgufFile
        from vortex_attention.formats.safetensors_file import SafetensorsFile
else:
    from vortex_attention.models.gguf_file import GgufFile
    from vortex_attention.formats.safetensors_file import SafetensorsFile


def seeds(folder: pathlib.Path) -> dict[str, bytes]:
    """A small whole file of each kind, by its suffix."""
    from reference.random_model import random_llama

    gguf = random_llama(folder / "seed.gguf", format="q4_0" if "q4_0" in _formats() else "f32", layers=1).read_bytes()
    header = {
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]},
        "b.weight": {"dtype": "F32", "shape": [3], "data_offsets": [64, 76]},
        "c": {"dtype": "F8_E4M3", "shape": [], "data_offsets": [76, 77]},
    }
    text = json.dumps(header).encode()
    return {".gguf": gguf, ".safetensors": struct.pack("<Q", len(text)) + text + bytes(range(77))}


def _formats() -> list[str]:
    from reference.random_model import TYPES

    return list(TYPES)


def read(path: pathlib.Path) -> None:
    file = GgufFile(path) if path.suffix == ".gguf" else SafetensorsFile(path)
    for tensor in file.tensors.values():
        np.asarray(tensor.data).view(np.uint8).sum()


def try_one(folder: pathlib.Path, suffix: str, data: bytes) -> str:
    path = folder / f"fuzzed{suffix}"
    path.write_bytes(data)
    return outcome(lambda: read(path))


def run(folder: pathlib.Path, runs: int, seed: int) -> dict[str, int]:
    """How many of the files of each kind were read all the same."""
    chance, whole, survived = random.Random(seed), seeds(folder), {}
    for suffix, data in whole.items():
        assert try_one(folder, suffix, data) == "read"
        survived[suffix] = sum(try_one(folder, suffix, damaged(data, chance)) == "read" for _ in range(runs))
    return survived


def guided(folder: pathlib.Path, arguments: list[str]) -> None:
    whole = seeds(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for suffix, data in whole.items():
        (corpus / suffix[1:]).write_bytes(data)

    def one(data: bytes) -> None:
        try_one(folder, ".gguf" if data[:4] == b"GGUF" else ".safetensors", data)

    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guided", action="store_true")
    known, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        if known.guided:
            guided(pathlib.Path(folder), others)
        print(
            f"{known.runs} of each, seed {known.seed}; read all the same: {run(pathlib.Path(folder), known.runs, known.seed)}"
        )


if __name__ == "__main__":
    main()
