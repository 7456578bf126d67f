"""Single needle in natural text: one sentence with a seven-digit number is hidden at a chosen depth, and asked for.

The task is RULER's first (Hsieh et al., 2024) in words of our own. An item is fixed by (text, length, depth, seed), so the
same items come out on every machine. Refuses a length that cannot hold the question.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Callable, Sequence

from ..errors import UserError

VERSION = 1  # raised when the same seed gives other items

TOPICS = (
    "amber",
    "basalt",
    "cedar",
    "delta",
    "ember",
    "falcon",
    "garnet",
    "harbor",
    "indigo",
    "juniper",
    "kestrel",
    "lagoon",
    "meadow",
    "nickel",
    "opal",
    "prairie",
    "quartz",
    "raven",
    "saffron",
    "timber",
    "umber",
    "velvet",
    "willow",
    "zephyr",
)

INTRODUCTION = "One special number is hidden in the text below. Remember it; you will be asked for it at the end.\n\n"
NEEDLE = " The special number of {topic} is {number}. "
QUESTION = "\n\nWhat is the special number of {topic} in the text above? Answer with the number only."
ANSWER = "The special number of {topic} is"


@dataclass(frozen=True)
class NeedleItem:
    """One question. `prompt` ends where the answer begins; `answer` are the tokens a right model says next."""

    name: str
    depth: float  # 0: the needle stands first, 1: last
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    number: str
    needle_token: int  # tokens of the prompt before the needle


Encode = Callable[[str], Sequence[int]]
Chat = Callable[[str, str], str]  # (user message, start of the answer) → the text the model reads


def make_items(
    text: str, encode: Encode, chat: Chat, *, length: int, count: int, seed: int = 1, drawn: bool = False
) -> list[NeedleItem]:
    """`count` items of at most `length` tokens (within 16 of it), depths spread evenly over the text. drawn: each depth anywhere in its
    share of the text, by the seed, so that no list of places holds the needles of another seed."""
    if count < 1:
        raise UserError("needle", "at least one item", f"count={count}", "raise --items")
    sentences = _sentences(text)
    generator, places = random.Random(seed), random.Random(f"depths {seed}")
    items = []
    for index in range(count):
        depth = (index + (places.random() if drawn else 0.5)) / count
        topic = generator.choice(TOPICS)
        number = str(generator.randrange(1_000_000, 10_000_000))
        start = generator.randrange(len(sentences))
        items.append(
            _make_item(
                sentences,
                start,
                encode,
                chat,
                length,
                depth,
                topic,
                number,
                f"needle-{'drawn-' if drawn else ''}{length}-{seed}-{index}",
            )  # fmt: skip
        )
    return items


def _sentences(text: str) -> list[str]:
    flat = " ".join(text.split())
    pieces = [
        piece.strip() for piece in flat.replace("? ", "?\0").replace("! ", "!\0").replace(". ", ".\0").split("\0")
    ]
    return [piece for piece in pieces if piece]


def _make_item(sentences, start, encode, chat, length, depth, topic, number, name) -> NeedleItem:
    needle = NEEDLE.format(topic=topic, number=number)

    def text_of(chosen: list[str]) -> str:
        at = round(depth * len(chosen))
        body = " ".join(chosen[:at]) + needle + " ".join(chosen[at:])
        return chat(INTRODUCTION + body + QUESTION.format(topic=topic), ANSWER.format(topic=topic))

    def prompt_of(chosen: list[str]) -> list[int]:
        return list(encode(text_of(chosen)))

    if len(prompt_of([])) > length:
        raise UserError(
            "needle", f"a length of at least {len(prompt_of([]))} tokens", f"length={length}", "raise --length"
        )
    # Sentences are whole, so the number of them is found by bisection and the rest is filled with words.
    chosen = [sentences[(start + i) % len(sentences)] for i in range(length // 8)]
    low, high = 0, len(chosen)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(prompt_of(chosen[:middle])) <= length else (low, middle - 1)
    kept = chosen[:low]
    words = chosen[low].split() if low < len(chosen) else []
    few, many = 0, len(words)
    while few < many:
        middle = (few + many + 1) // 2
        few, many = (middle, many) if len(prompt_of(kept + [" ".join(words[:middle])])) <= length else (few, middle - 1)
    if few:
        kept = kept + [" ".join(words[:few])]
    prompt = prompt_of(kept)
    answer = list(encode(f" {number}"))
    text = text_of(kept)
    needle_token = len(encode(text[: text.index(needle)]))
    return NeedleItem(name, depth, tuple(prompt), tuple(answer), number, needle_token)
