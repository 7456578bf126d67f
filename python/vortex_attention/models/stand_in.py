"""Text and tokens for a model without a tokenizer, whose text means nothing: a byte is a token, and a token that is no
ASCII letter is written as its number."""

from vortex_attention.models.tokenizer import Tokenizer


class StandInTokenizer(Tokenizer):
    def __init__(self, vocabulary: int):
        self.vocabulary = vocabulary
        self.bos = self.eos = None
        self._set_whole({}, {}, [])

    def encode(
        self, text: str, control: bool = False, bos: bool = True, eos: bool = False, ignore: str = ""
    ) -> list[int]:
        text = text.replace(ignore, "") if ignore else text
        return [byte % self.vocabulary for byte in text.encode("utf-8", "replace")]

    def _bytes_of(self, token: int) -> bytes:
        return bytes([token]) if 32 <= token < 127 or token == 10 else f" <{token}>".encode()
