"""Text to tokens and back, whatever a vocabulary comes from: `GgufTokenizer` of a GGUF file's metadata, `FolderTokenizer`
(folder_tokenizer.py) of a Hugging Face folder.

Control tokens (<|im_start|>) are recognised in text only where the caller asks for it, so that what a user types
cannot end a turn.
"""

import abc
import codecs
import re
from collections.abc import Iterable

from vortex_attention.errors import UserError
from vortex_attention.models import sentencepiece
from vortex_attention.models.byte_level import ByteLevel, bytes_of, pre_tokenizer_named
from vortex_attention.models.gguf_file import GgufFile
from vortex_attention.models.sentencepiece import SPACE, SentencePiece

# Control tokens that end an answer, beside the one that a file names: files often name only one of several.
_ENDINGS = "<|im_end|> <|eot_id|> <|eom_id|> <|endoftext|> <|end_of_text|> <|end|> <end_of_turn> <|eot|> <|return|> </s>".split()
_KINDS = {"gpt2": "byte-level BPE", "llama": "SentencePiece BPE"}


class Tokenizer(abc.ABC):
    """encode and decode; `control` maps the text of each control token to its id, `stop_tokens` end an answer."""

    vocabulary: int
    known: int | None = None  # tokens that there are, where the model has more rows than that
    bos: int | None
    eos: int | None
    control: dict[str, int]
    whole: dict[str, int]  # control tokens, and those that are recognised in any text
    stop_tokens: list[int]
    strips = "never"  # blanks that decode leaves out: "first" at the start, "each" after every whole token too

    @abc.abstractmethod
    def encode(
        self, text: str, control: bool = False, bos: bool = True, eos: bool = False, ignore: str = ""
    ) -> list[int]:
        """Tokens of `text`. control: control tokens written in the text count as such. bos, eos: begin with the bos
        token, unless the text does, and end with the eos token, if the model was made so. ignore: a letter that is left
        out once control tokens have been recognised."""

    @abc.abstractmethod
    def _bytes_of(self, token: int) -> bytes: ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for; none for a control token."""
        if not 0 <= token < self.vocabulary:
            required = f"tokens from 0 to {self.vocabulary - 1}"
            raise UserError("decode", required, f"got {token}", "decode tokens of this model")
        return self._bytes_of(token) if self.known is None or token < self.known else b""

    def cover(self, rows: int) -> None:
        """A model may have more rows than its vocabulary has tokens; what it says with those stands for nothing."""
        self.known = self.vocabulary
        self.vocabulary = max(rows, self.vocabulary)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens, control tokens left out; bytes that are no UTF-8 become U+FFFD."""
        stream = self.stream()
        return "".join(map(stream.push, tokens)) + stream.finish()

    def stream(self) -> "Stream":
        return Stream(self)

    def guard(self, text: str, mark: str) -> str:
        """`text` with `mark` inside every control token it contains: encode(control=True, ignore=mark) sees none."""
        return self._control_pattern.sub(lambda match: match.group()[0] + mark + match.group()[1:], text)

    def _set_whole(self, control: dict[str, int], defined: dict[str, int], named: Iterable[int | None]) -> None:
        """`named`: tokens that the files say end an answer."""
        self.control, self.whole = control, control | defined
        self._whole_ids = set(self.whole.values())
        self._control_pattern, self._defined_pattern = pattern_of(control), pattern_of(defined)
        self._whole_pattern = pattern_of(self.whole)
        endings = [*named, *(control.get(text) for text in _ENDINGS)]
        self.stop_tokens = list(dict.fromkeys(token for token in endings if token is not None))

    def _framed(self, ids: list[int], begin: bool, end: bool) -> list[int]:
        begin = begin and self.bos is not None and ids[:1] != [self.bos]
        return [self.bos] * begin + ids + [self.eos] * (end and self.eos is not None)


class Stream:
    """Turns tokens into text as they come. What it has said so far is always whole characters, and all of it together
    with finish() is decode() of all tokens."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = tokenizer.strips != "never"

    def push(self, token: int) -> str:
        data = self._tokenizer.token_bytes(token)
        if token in self._tokenizer._whole_ids:
            self._at_start = self._at_start or self._tokenizer.strips == "each"
            return self._decoder.decode(data)
        if self._at_start and data:
            self._at_start = False
            data = data.removeprefix(b" ")
        return self._decoder.decode(data)

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class GgufTokenizer(Tokenizer):
    """Rebuilt from the metadata of a GGUF file. Refuses other kinds of vocabulary than those of _KINDS."""

    def __init__(self, file: GgufFile):
        kind = file.get("tokenizer.ggml.model", str)
        if kind not in _KINDS:
            known = ", ".join(f"{name} ({what})" for name, what in _KINDS.items())
            required = f"a vocabulary of one of the kinds {known}"
            raise UserError(file.where, required, f"got tokenizer.ggml.model = {kind}", "use another model")
        tokens, kinds = self._read_vocabulary(file)
        self._tokens, self._kinds, self._is_bytes = tokens, kinds, kind == "gpt2"
        self.vocabulary = len(tokens)
        self.bos, self.eos = self._id(file, "bos"), self._id(file, "eos")
        control, defined = {}, {}
        for i, (text, sort) in enumerate(zip(tokens, kinds, strict=True)):
            if (
                sort in (sentencepiece.CONTROL, sentencepiece.UNKNOWN)
                or text in _ENDINGS
                and sort != sentencepiece.BYTE
            ):
                control[text] = i
            elif sort == sentencepiece.USER_DEFINED:
                defined[text] = i
        control.pop("", None), defined.pop("", None)
        self._set_whole(control, defined, [self.eos, self._id(file, "eot"), self._id(file, "eom")])
        self._model = self._bpe(file) if self._is_bytes else self._pieces(file)
        self.strips = "each" if self._model.adds_prefix_space else "never"
        self.adds_bos = file.get("tokenizer.ggml.add_bos_token", bool, self._model.begins_with_bos)
        self.adds_eos = file.get("tokenizer.ggml.add_eos_token", bool, False)

    def _read_vocabulary(self, file: GgufFile) -> tuple[list[str], list[int]]:
        tokens = file.get("tokenizer.ggml.tokens", list)
        kinds = file.get("tokenizer.ggml.token_type", list, [sentencepiece.NORMAL] * len(tokens))
        distinct = len(set(tokens))
        whole = all(type(text) is str for text in tokens) and all(type(kind) is int for kind in kinds)
        if not tokens or distinct != len(tokens) or len(kinds) != len(tokens) or not whole:
            raise UserError(
                file.where,
                "a vocabulary of distinct texts, each with a type",
                f"got {len(tokens)} tokens, {distinct} of them distinct, and {len(kinds)} types",
                "the file is damaged, fetch it again",
            )
        return tokens, kinds

    def _bpe(self, file: GgufFile) -> ByteLevel:
        merges = file.get("tokenizer.ggml.merges", list)
        if not all(type(text) is str for text in merges):
            raise UserError(file.where, "merges that are texts", "got others", "the file is damaged, fetch it again")
        name = file.get("tokenizer.ggml.pre", str, "")
        vocabulary = {text: i for i, text in enumerate(self._tokens)}
        return ByteLevel(vocabulary, merges, pre_tokenizer_named(name or None, file.where), file.where)

    def _pieces(self, file: GgufFile) -> SentencePiece:
        scores = file.get("tokenizer.ggml.scores", list)
        prefix = file.get("tokenizer.ggml.add_space_prefix", bool, True)
        return SentencePiece(self._tokens, scores, self._kinds, prefix, file.where)

    def _id(self, file: GgufFile, name: str) -> int | None:
        key = f"tokenizer.ggml.{name}_token_id"
        if key not in file.metadata:
            return None
        value = file.get(key, int)
        if not 0 <= value < self.vocabulary:
            todo = "the file is damaged, fetch it again"
            raise UserError(file.where, f"{key} below {self.vocabulary}", f"got {value}", todo)
        return value

    def encode(
        self, text: str, control: bool = False, bos: bool = True, eos: bool = False, ignore: str = ""
    ) -> list[int]:
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate (from JSON, say) is no character
        ids: list[int] = []
        at, first = 0, True
        for match in (self._whole_pattern if control else self._defined_pattern).finditer(text):
            if match.start() > at:
                ids += self._plain(text[at : match.start()], first, ignore)
            ids.append(self.whole[match.group()])
            at, first = match.end(), True
        if at < len(text):
            ids += self._plain(text[at:], first, ignore)
        return self._framed(ids, bos and self.adds_bos, eos and self.adds_eos)

    def _plain(self, text: str, first: bool, ignore: str) -> list[int]:
        return self._model.encode(text.replace(ignore, "") if ignore else text, first)

    def _bytes_of(self, token: int) -> bytes:
        text, kind = self._tokens[token], self._kinds[token]
        if text in self.control or kind == sentencepiece.UNUSED:
            return b""
        if kind == sentencepiece.USER_DEFINED:
            return text.encode()
        return bytes_of(text) if self._is_bytes else piece_bytes(text, kind == sentencepiece.BYTE)


def piece_bytes(text: str, is_byte: bool) -> bytes:
    """What a SentencePiece token stands for."""
    byte = sentencepiece.byte_of(text) if is_byte else None
    return text.replace(SPACE, " ").encode() if byte is None else bytes([byte])


def pattern_of(texts: Iterable[str]) -> re.Pattern:
    """Finds the longest of the texts at the leftmost place."""
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or "(?!)")
