"""Text to tokens and back, from a GGUF file's metadata: byte-level BPE. Merging is the tokenizers library's work.

Control tokens (<|im_start|>) are recognised in text only where the caller asks for it, so that what a user types
cannot end a turn. Refuses vocabularies of other kinds (SentencePiece) and pre-tokenizers that are not in the table
below.
"""

import codecs
import re
from collections.abc import Iterable

import tokenizers
from tokenizers import Regex, pre_tokenizers

from vortex_attention.errors import UserError
from vortex_attention.models.gguf_file import GgufFile

# How text is cut before merging; the name is the file's tokenizer.ggml.pre.
PRE_TOKENIZERS = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "smollm": lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    ),
    "qwen2": lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}
# Contractions; a word with at most one sign before it; one digit; signs; line ends; blanks.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _USER_DEFINED = 3, 4


def _byte_letters() -> dict[str, int]:
    """The letters that stand for bytes in a byte-level vocabulary: printable bytes are themselves, the others follow
    U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()


class Tokenizer:
    """encode and decode; `control` maps the text of each control token to its id."""

    def __init__(self, file: GgufFile):
        self._where = file.where
        kind, pre = file.get("tokenizer.ggml.model", str), file.get("tokenizer.ggml.pre", str, "gpt-2")
        if kind != "gpt2":
            raise UserError(
                file.where,
                "a byte-level BPE vocabulary (tokenizer.ggml.model = gpt2)",
                f"got {kind}",
                "use another model",
            )
        if pre not in PRE_TOKENIZERS:
            raise UserError(
                file.where,
                f"one of the pre-tokenizers {', '.join(PRE_TOKENIZERS)}",
                f"got tokenizer.ggml.pre = {pre}",
                "use another model",
            )
        tokens, merges = file.get("tokenizer.ggml.tokens", list), file.get("tokenizer.ggml.merges", list)
        kinds = file.get("tokenizer.ggml.token_type", list, [1] * len(tokens))
        vocabulary = {token: i for i, token in enumerate(tokens)}
        if (
            len(vocabulary) != len(tokens)
            or len(kinds) != len(tokens)
            or not all(type(text) is str for text in [*tokens, *merges])
        ):
            raise UserError(
                file.where,
                "a vocabulary of distinct texts, each with a type",
                f"got {len(tokens)} tokens, {len(vocabulary)} of them distinct, and {len(kinds)} types",
                "the file is damaged, fetch it again",
            )
        self.vocabulary = len(tokens)
        self.bos = self._id(file, "bos")
        self.eos = self._id(file, "eos")
        self.adds_bos = file.get("tokenizer.ggml.add_bos_token", bool, False) and self.bos is not None
        self.control = {tokens[i]: i for i, kind in enumerate(kinds) if kind == _CONTROL}
        whole = self.control | {tokens[i]: i for i, kind in enumerate(kinds) if kind == _USER_DEFINED}
        self._whole = whole
        self.pattern = re.compile("|".join(re.escape(text) for text in sorted(whole, key=len, reverse=True)) or "(?!)")
        control_ids = set(self.control.values())
        self._token_bytes = [b"" if i in control_ids else _bytes_of(token) for i, token in enumerate(tokens)]
        try:
            pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
            self._bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, pairs))
        except Exception as error:
            raise UserError(
                file.where, "merges of tokens in the vocabulary", str(error), "the file is damaged, fetch it again"
            ) from None
        self._bpe.pre_tokenizer = PRE_TOKENIZERS[pre]()

    def _id(self, file: GgufFile, name: str) -> int | None:
        key = f"tokenizer.ggml.{name}_token_id"
        if key not in file.metadata:
            return None
        value = file.get(key, int)
        if not 0 <= value < self.vocabulary:
            raise UserError(
                file.where, f"{key} below {self.vocabulary}", f"got {value}", "the file is damaged, fetch it again"
            )
        return value

    def encode(self, text: str, control: bool = False, bos: bool = True, ignore: str = "") -> list[int]:
        """Tokens of `text`. control: control tokens written in the text count as such. bos: begin with the bos token
        if the model was made so. ignore: a letter that is left out once control tokens have been recognised."""
        ids = [self.bos] if bos and self.adds_bos else []
        at = 0
        for match in self.pattern.finditer(text) if control else ():
            ids += self._plain(text[at : match.start()], ignore)
            ids.append(self._whole[match.group()])
            at = match.end()
        return ids + self._plain(text[at:], ignore)

    def _plain(self, text: str, ignore: str) -> list[int]:
        text = text.replace(ignore, "") if ignore else text
        # A lone surrogate (from JSON, say) is no character and has no bytes in UTF-8.
        return self._bpe.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids if text else []

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for; none for a control token."""
        if not 0 <= token < self.vocabulary:
            raise UserError(
                "decode", f"tokens from 0 to {self.vocabulary - 1}", f"got {token}", "decode tokens of this model"
            )
        return self._token_bytes[token]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens, control tokens left out; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")

    def stream(self) -> "Stream":
        return Stream(self)


class Stream:
    """Turns tokens into text as they come. What it has said so far is always whole characters, and all of it together
    with finish() is decode() of all tokens."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


def _bytes_of(token: str) -> bytes:
    """A token with a letter outside the table (an added one) stands for its own text."""
    return (
        bytes(_BYTES[letter] for letter in token)
        if all(letter in _BYTES for letter in token)
        else token.encode("utf-8", "replace")
    )
