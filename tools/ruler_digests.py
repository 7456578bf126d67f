"""Runs RULER's official generators (nvidia-long-context-eval) and writes digests of what they make, for the test that our
generators make the same: tests/python/reference/ruler.json. Run by hand; the only place where code of that package runs.

usage: ruler_digests.py FOLDER_OF_THE_UNPACKED_WHEEL FOLDER_OF_UNPACKED_WONDERWORDS OUTPUT

Stand-ins: sentences are split by our splitter (the official one asks NLTK's Punkt model) and tokens are words and marks.
"""

import contextlib
import hashlib
import io
import json
import pathlib
import re
import runpy
import sys
import types

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))

from vortex_attention.eval.ruler.needles import sentences_of  # noqa: E402
from vortex_attention.eval.ruler.table import TASKS  # noqa: E402

SAMPLES, SEED, LENGTHS = 2, 42, (1500, 4096)
WORDS_AND_MARKS = re.compile(r"\w+|[^\w\s]")


def module(name: str, **members) -> None:
    made = types.ModuleType(name)
    made.__dict__.update(members)
    sys.modules[name] = made


def official(folder: pathlib.Path, name: str, length: int) -> list[dict]:
    """The samples that the official script writes for a task."""
    written: list[dict] = []

    class Tokenizer:
        def text_to_tokens(self, text):
            return WORDS_AND_MARKS.findall(text)

    scripts = folder / "long_context_eval" / "data" / "synthetic"
    stubs = {"select_tokenizer": lambda *_: Tokenizer()}
    module("nltk")
    module("nltk.tokenize", sent_tokenize=sentences_of)
    module("tokenizer", **stubs)
    module("long_context_eval.data.tokenizer", **stubs)
    module("long_context_eval.pred.nemo_utils", write_manifest=lambda _path, rows: written.extend(rows))
    row = TASKS[name]
    constants = runpy.run_path(str(scripts / "constants.py"))["TASKS"][row.kind]
    shape = row.settings.get("shape")
    extra = {}
    if shape:
        extra = {"type_haystack": shape.haystack, "type_needle_k": shape.keys, "type_needle_v": shape.values,
                 "num_needle_k": shape.num_keys, "num_needle_v": shape.num_values, "num_needle_q": shape.num_queries}  # fmt: skip
    elif row.kind == "qa":
        extra = {"dataset": row.settings["dataset"]}
    arguments = {"save_dir": "/nowhere", "save_name": name, "tokenizer_path": "x", "tokenizer_type": "hf", "max_seq_length": length,
                 "tokens_to_generate": constants["tokens_to_generate"], "num_samples": SAMPLES, "random_seed": SEED,
                 "template": constants["template"] + constants["answer_prefix"], **extra}  # fmt: skip
    sys.argv = ["script", *(text for key, value in arguments.items() for text in (f"--{key}", str(value)))]
    sys.path[:0] = [str(folder), str(scripts)]
    pathlib.Path.mkdir, make = (lambda *_, **__: None), pathlib.Path.mkdir
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(str(scripts / f"{row.kind}.py"), run_name="__main__")
    finally:
        pathlib.Path.mkdir = make
        del sys.path[:2]
    return written


def digest(text: str, outputs: list[str], length: int) -> str:
    return hashlib.sha256(json.dumps([text, list(outputs), length]).encode()).hexdigest()[:16]


def main() -> None:
    folder, words, output = (pathlib.Path(argument) for argument in sys.argv[1:4])
    sys.path.insert(0, str(words))
    found: dict = {"seed": SEED, "samples": SAMPLES, "digests": {}}
    for name in TASKS:
        for length in LENGTHS:
            rows = official(folder, name, length)
            found["digests"].setdefault(name, {})[str(length)] = [
                digest(row["input"], row["outputs"], row["length"]) for row in rows
            ]
            print(name, length, found["digests"][name][str(length)], flush=True)
    output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
