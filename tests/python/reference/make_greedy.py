"""Regenerates greedy.json: what the float64 reference writes on the default model, and how sure it was of each token.

    PYTHONPATH=python python tests/python/reference/make_greedy.py MODEL.gguf

For each of 10 prompts: the prompt's tokens, the 64 likeliest next tokens one after another, and the gap between the
two largest logits at each step. About half a minute on one core.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one order of summation

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reference.llama import Llama
from vortex_attention.models.chat import ChatTemplate
from vortex_attention.models.gguf_file import GgufFile
from vortex_attention.models.tokenizer import GgufTokenizer

STEPS = 64
CHATS = [
    "Why is the sky blue?",
    "Write a short story about a lighthouse keeper.",
    "List five uses for a paper clip.",
    "Explain how a bicycle stays upright.",
    "What is 17 times 23? Think step by step.",
]
TEXTS = [
    "The history of the printing press begins",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a village at the foot of a mountain,",
    "Die Hauptstadt von Frankreich ist",
    "The three laws of thermodynamics state that",
]


def main(path: str) -> None:
    file = GgufFile(path)
    tokenizer = GgufTokenizer(file)
    chat = ChatTemplate(file.metadata["tokenizer.chat_template"], tokenizer)
    prompts = [(text, chat.encode([{"role": "user", "content": text}])) for text in CHATS]
    prompts += [(text, tokenizer.encode(text)) for text in TEXTS]
    model = Llama.from_gguf(path)
    caches = [model.cache() for _ in prompts]
    tokens, gaps = [[] for _ in prompts], [[] for _ in prompts]
    new = [ids for _, ids in prompts]
    for step in range(STEPS):
        for i, logits in enumerate(model.forward(list(zip(caches, new)), last_only=True)):
            second, first = np.argsort(logits[0])[-2:]
            tokens[i].append(int(first))
            gaps[i].append(round(float(logits[0][first] - logits[0][second]), 4))
        new = [written[-1:] for written in tokens]
        print(f"\rstep {step + 1} of {STEPS}", end="", file=sys.stderr, flush=True)
    items = [
        {"text": text, "prompt": ids, "tokens": written, "gaps": sure}
        for (text, ids), written, sure in zip(prompts, tokens, gaps)
    ]
    with open(path, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    lines = ",\n".join("  " + json.dumps(item) for item in items)
    Path(__file__).with_name("greedy.json").write_text(f'{{"model_sha256": "{digest}", "items": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(sys.argv[1])
