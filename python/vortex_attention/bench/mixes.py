"""Mixes of lengths for offline throughput: what a batch of work looks like, fixed by name, count, scale and seed. Tokens mean nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError, unknown_name


@dataclass(frozen=True)
class Turn:
    """tokens: what is said anew; answer: tokens that are made, all of them."""

    tokens: tuple[int, ...]
    answer: int


@dataclass(frozen=True)
class Conversation:
    """Turns one after the other: a prompt is all that was said and answered before, then the turn's tokens."""

    turns: tuple[Turn, ...]

    @property
    def longest(self) -> int:
        return sum(len(turn.tokens) + turn.answer for turn in self.turns)


MIXES = {
    "fixed": "prompts of 512 tokens, answers of 64",
    "uniform": "prompts of 128 to 1,024 tokens, answers of 16 to 128",
    "aime": "prompts of 80 to 300 tokens, long answers of lognormal lengths: median 384, sigma 0.7, at most 1,536",
    "turns": "conversations of 3 turns that begin with the same 512 tokens; 32 to 128 tokens are said, 32 to 96 answered",
}


def make(name: str, *, requests: int, seed: int, scale: float, vocabulary: int, limit: int) -> list[Conversation]:
    """requests: conversations. scale: of all lengths. UserError when one is longer than `limit` tokens."""
    if name not in MIXES:
        raise unknown_name("--mix", f"mixes among {', '.join(MIXES)}", name, MIXES, "choose one of them")
    generator = np.random.default_rng([seed, list(MIXES).index(name)])

    def length(low: float, high: float | None = None) -> int:
        wanted = low if high is None else generator.uniform(low, high)
        return max(1, round(float(wanted) * scale))

    def said(count: int) -> tuple[int, ...]:
        return tuple(int(token) for token in generator.integers(0, vocabulary, count))

    shared = said(length(512)) if name == "turns" else ()
    made = []
    for _ in range(requests):
        if name == "fixed":
            turns = [Turn(said(length(512)), length(64))]
        elif name == "uniform":
            turns = [Turn(said(length(128, 1024)), length(16, 128))]
        elif name == "aime":
            turns = [Turn(said(length(80, 300)), length(min(1536.0, float(generator.lognormal(np.log(384), 0.7)))))]
        else:
            turns = [
                Turn((*(shared if number == 0 else ()), *said(length(32, 128))), length(32, 96)) for number in range(3)
            ]
        made.append(Conversation(tuple(turns)))
    longest = max(conversation.longest for conversation in made)
    if longest > limit:
        raise UserError(
            "--mix", f"at most {limit} tokens, the context of the model", f"{longest} tokens in {name}", "lower --scale"
        )
    return made
