"""What a suite may ask of a model: its tokens, its chat frame, its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import UserError
from ..continuations import Continuations
from ..made_items import MadeItems


@dataclass(frozen=True)
class Context:
    """encode: text to tokens, control tokens in the text recognised. chat: (user, start of the answer) → text, None when the model
    has no chat template. next_turn: user → text from the end of an answer to where the model answers. natural: the text that items are cut from."""

    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    chat: Callable[[str, str], str] | None
    stop: frozenset[int]
    limit: int  # tokens that the model's context holds
    natural: Callable[[], str]
    vocabulary: int
    continuations: Continuations | None = None  # where texts that full attention wrote are kept
    made: MadeItems | None = None  # and questions that take long to draw
    next_turn: Callable[[str], str] = "\n\n{}\n\n".format

    def need(self, tokens: int, what: str) -> None:
        if tokens > self.limit:
            raise UserError(
                "lengths",
                f"at most {self.limit} tokens, the context of the model",
                f"{tokens} tokens for {what}",
                "lower --length",
            )


def context_of(
    loaded,
    natural: Callable[[], str],
    continuations: Continuations | None = None,
    made: MadeItems | None = None,
) -> Context:
    """Of a loaded model."""
    return Context(
        encode=lambda text: list(loaded.tokenizer.encode(text, control=True)),
        decode=loaded.tokenizer.decode,
        chat=loaded.chat if loaded.chat_template is not None else None,
        stop=frozenset(loaded.stop_tokens),
        limit=loaded.config.context,
        natural=natural,
        vocabulary=loaded.config.vocabulary,
        continuations=continuations,
        made=made,
        **({} if loaded.chat_template is None else {"next_turn": loaded.next_turn}),
    )
