"""SentencePiece BPE from pieces and scores: of all neighbours that make a piece the best-scored pair joins first, the
leftmost of equals. Blanks are written ▁; a letter that is no piece becomes its bytes."""

import functools
import heapq
import math
import re
from collections.abc import Sequence

from vortex_attention.errors import UserError

SPACE = "▁"
_LONGEST_KEPT = 64  # letters of a word whose tokens are remembered
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def byte_of(piece: str) -> int | None:
    """0x41 for the piece <0x41>."""
    return int(piece[3:5], 16) if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", piece) else None


class SentencePiece:
    """Plain text to tokens. Control, unknown and byte pieces are never made from text; an unused piece is taken apart
    again, as SentencePiece does."""

    begins_with_bos = True

    def __init__(
        self, pieces: Sequence[str], scores: Sequence[float], kinds: Sequence[int], adds_prefix_space: bool, where: str
    ):
        if len(scores) != len(pieces) or not all(
            type(score) in (int, float) and math.isfinite(score) for score in scores
        ):
            raise UserError(
                where,
                "a number as the score of each token",
                f"got {len(scores)} scores for {len(pieces)} tokens, or one that is no number",
                "the file is damaged, fetch it again",
            )
        self.adds_prefix_space = adds_prefix_space
        self._kinds = kinds
        self._scores = [float(score) for score in scores]
        self._ids = {text: i for i, text in enumerate(pieces) if kinds[i] in (NORMAL, USER_DEFINED, UNUSED)}
        self._bytes = {byte_of(text): i for i, text in enumerate(pieces) if kinds[i] == BYTE}
        unknown = [i for i, kind in enumerate(kinds) if kind == UNKNOWN]
        self._unknown = unknown[0] if unknown else None
        if self._unknown is None and not all(byte in self._bytes for byte in range(256)):
            raise UserError(
                where,
                "a token for each byte, or one for what is unknown",
                f"got {len(self._bytes)} bytes and no unknown token",
                "the file is damaged, fetch it again",
            )
        # Where no piece goes on with a blank after another letter, words never join: they are merged one by one.
        whole = all(SPACE not in text.lstrip(SPACE) for text in self._ids)
        self._words = re.compile(f"{SPACE}+[^{SPACE}]*|[^{SPACE}]+") if whole else re.compile(r"(?s:.+)")
        self._short_word = functools.lru_cache(1 << 15)(self._merge)

    def encode(self, text: str, first: bool) -> list[int]:
        """first: the text begins, or stands after a special token; it gets the blank that begins a word."""
        if first and self.adds_prefix_space:
            text = SPACE + text
        return [token for word in self._words.findall(text.replace(" ", SPACE)) for token in self._word(word)]

    def _word(self, word: str) -> tuple[int, ...]:
        return self._short_word(word) if len(word) <= _LONGEST_KEPT else self._merge(word)

    def _merge(self, word: str) -> tuple[int, ...]:
        symbols: list[str] = list(word)  # "" once it has joined the one before
        after = [*range(1, len(symbols)), -1]
        before = list(range(-1, len(symbols) - 1))
        pairs: list[tuple[float, int, int, str]] = []  # best score first, then leftmost
        halves: dict[str, tuple[str, str]] = {}

        def offer(left: int, right: int) -> None:
            if left < 0 or right < 0:
                return
            text = symbols[left] + symbols[right]
            if (piece := self._ids.get(text)) is not None:
                heapq.heappush(pairs, (-self._scores[piece], left, right, text))
                if self._kinds[piece] == UNUSED:
                    halves[text] = (symbols[left], symbols[right])

        for left in range(len(symbols) - 1):
            offer(left, left + 1)
        while pairs:
            _, left, right, text = heapq.heappop(pairs)
            if (
                not symbols[left]
                or not symbols[right]
                or symbols[left] + symbols[right] != text
                or after[left] != right
            ):
                continue  # one of them has joined another meanwhile
            symbols[left], symbols[right] = text, ""
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        tokens: list[int] = []
        stack = [symbol for symbol in reversed(symbols) if symbol]
        while stack:
            symbol = stack.pop()
            piece = self._ids.get(symbol)
            if symbol in halves:
                stack += reversed(halves[symbol])
            elif piece is not None:
                tokens.append(piece)
            else:
                tokens += self._fallback(symbol)
        return tuple(tokens)

    def _fallback(self, letter: str) -> list[int]:
        codes = letter.encode()
        if all(code in self._bytes for code in codes):
            return [self._bytes[code] for code in codes]
        return [] if self._unknown is None else [self._unknown]
