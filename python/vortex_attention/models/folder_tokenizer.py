"""Tokenizer and chat template of a Hugging Face folder: tokenizer.json (with tokenizer_config.json and
generation_config.json beside it), and the template wherever it is kept. Refuses a folder that has a slow tokenizer
only, and vocabularies that do not stand for bytes."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator

import tokenizers
from tokenizers import normalizers

from vortex_attention.errors import MachineError, UserError
from vortex_attention.models.byte_level import bytes_of
from vortex_attention.formats.json_file import parse_object
from vortex_attention.models.tokenizer import Tokenizer, piece_bytes

_LIMIT = 128 << 20


class FolderTokenizer(Tokenizer):
    def __init__(self, folder: str | os.PathLike):
        self.folder = os.fspath(folder)
        self.where = os.path.basename(os.path.normpath(self.folder))
        described = self._described()
        settings = read_json(self.folder, "tokenizer_config.json") or {}
        self._lock = threading.Lock()  # the library's switches belong to one call at a time
        self._tokenizer = self._made(described)
        self._normalizer = self._tokenizer.normalizer
        self._ids = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocabulary = max(self._ids.values(), default=-1) + 1
        if not self.vocabulary:
            raise UserError(self.where, "a vocabulary of at least one token", "none", "fetch tokenizer.json again")
        self._set_decoding(described)
        added = self._tokenizer.get_added_tokens_decoder()
        control = {token.content: i for i, token in added.items() if token.special and token.content}
        defined = {token.content: i for i, token in added.items() if not token.special and token.content}
        self.bos, self.eos = (self._named(settings.get(key), key) for key in ("bos_token", "eos_token"))
        self._set_whole(control, defined, [*self._ends(), self.eos])
        self._special, self._defined = set(control.values()), {i: text.encode() for text, i in defined.items()}
        framed = self._ids_of("", framed=True)
        if self.bos is None and framed and framed[0] in self._special and framed[0] != self.eos:
            self.bos = framed[0]
        self.adds_bos = _switch(settings, "add_bos_token", framed[:1] == [self.bos])
        self.adds_eos = _switch(settings, "add_eos_token", self.eos is not None and framed[-1:] == [self.eos])

    def _described(self) -> dict:
        described = read_json(self.folder, "tokenizer.json")
        if described is None:
            slow = [name for name in ("tokenizer.model", "vocab.json", "vocab.txt") if os.path.exists(self._path(name))]
            came = f"it has {slow[0]} only" if slow else "it has none"
            todo = "save it with a fast tokenizer, or use a GGUF file" if slow else "fetch the whole model"
            raise UserError(self.where, "a folder with tokenizer.json", came, todo)
        for token in _list(described.get("added_tokens")):
            if isinstance(token, dict) and token.get("special"):
                token["normalized"] = False  # found in the text as it is, so that a guarded one is not
        return described

    def _made(self, described: dict) -> tokenizers.Tokenizer:
        with self._words_for("a tokenizer", "fetch it again, or update the tokenizers library"):
            made = tokenizers.Tokenizer.from_str(json.dumps(described))
            made.no_truncation()
            made.no_padding()
            return made

    @contextlib.contextmanager
    def _words_for(self, required: str, todo: str) -> Iterator[None]:
        """Whatever the library says of a file becomes a UserError; on some files it panics."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise UserError(f"{self.where}/tokenizer.json", required, str(error)[:200], todo) from None

    def _ids_of(self, text: str, framed: bool = False) -> list[int]:
        with self._words_for("a tokenizer that takes any text", "fetch it again, or use another model"):
            return self._tokenizer.encode(text, add_special_tokens=framed).ids

    def _set_decoding(self, described: dict) -> None:
        """How tokens become bytes, from what the file says of decoding."""
        steps = _steps(described.get("decoder"))
        kinds = {step.get("type") for step in steps}
        self._is_bytes = "ByteLevel" in kinds
        if not self._is_bytes and not kinds & {"Metaspace", "ByteFallback"}:
            raise UserError(
                f"{self.where}/tokenizer.json",
                "a vocabulary of bytes (ByteLevel) or SentencePiece pieces (Metaspace, ByteFallback)",
                f"got the decoder {', '.join(sorted(map(str, kinds))) or 'none'}",
                "use another model",
            )
        if self._is_bytes:
            return
        meta = [step for step in steps if step.get("type") == "Metaspace"]
        scheme = (
            meta[0].get("prepend_scheme", "always" if meta[0].get("add_prefix_space", True) else "never")
            if meta
            else ""
        )
        prepends = any(step.get("type") == "Prepend" for step in _steps(described.get("normalizer")))
        if prepends or scheme == "always":
            self.strips = "each"
        elif scheme == "first" or any(step.get("type") == "Strip" for step in steps):
            self.strips = "first"

    def _named(self, token, key: str) -> int | None:
        text = token.get("content") if isinstance(token, dict) else token
        if text is None:
            return None
        if not isinstance(text, str) or text not in self._ids:
            required = f"a {key} of the vocabulary"
            raise UserError(f"{self.where}/tokenizer_config.json", required, f"got {text!r}", "fetch the whole model")
        return self._ids[text]

    def _ends(self) -> list[int]:
        ends = (read_json(self.folder, "generation_config.json") or {}).get("eos_token_id")
        ends = [ends] if type(ends) is int else _list(ends)
        return [token for token in ends if type(token) is int and 0 <= token < self.vocabulary]

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def encode(
        self, text: str, control: bool = False, bos: bool = True, eos: bool = False, ignore: str = ""
    ) -> list[int]:
        text = text.encode("utf-8", "replace").decode()
        with self._lock:
            self._tokenizer.encode_special_tokens = not control
            if ignore:
                steps = [normalizers.Replace(ignore, ""), *([self._normalizer] if self._normalizer else [])]
                self._tokenizer.normalizer = normalizers.Sequence(steps)
            try:
                ids = self._ids_of(text)
            finally:
                if ignore:
                    self._tokenizer.normalizer = self._normalizer
        return self._framed(ids, bos and self.adds_bos, eos and self.adds_eos)

    def _bytes_of(self, token: int) -> bytes:
        if token in self._special:
            return b""
        if token in self._defined:
            return self._defined[token]
        text = self._tokenizer.id_to_token(token)
        if text is None:  # a number between tokens that stands for nothing
            return b""
        return bytes_of(text) if self._is_bytes else piece_bytes(text, True)


def template_of_folder(folder: str | os.PathLike) -> str | None:
    """The chat template: chat_template.jinja, else the one in chat_template.json or tokenizer_config.json, of several the
    one named default; None when there is none."""
    folder = os.fspath(folder)
    data = read_bytes(folder, "chat_template.jinja")
    if data is not None:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            where = where_of(folder, "chat_template.jinja")
            raise UserError(where, "a text in UTF-8", f"broken text at byte {error.start}", "fetch it again") from None
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = (read_json(folder, name) or {}).get("chat_template")
        if isinstance(template, list):
            named = [it.get("template") for it in template if isinstance(it, dict) and it.get("name") == "default"]
            template = named[-1] if named else None
        elif isinstance(template, dict):
            template = template.get("default")
        if isinstance(template, str):
            return template
    return None


def read_bytes(folder: str, name: str) -> bytes | None:
    """A file of the folder; None when there is none."""
    path = os.path.join(folder, name)
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(
            where_of(folder, name), "a file that can be read", str(error), "check its permissions"
        ) from None
    if len(data) > _LIMIT:
        raise UserError(where_of(folder, name), f"at most {_LIMIT >> 20} MiB", "it has more", "fetch the model again")
    return data


def read_json(folder: str, name: str) -> dict | None:
    """The object in a JSON file of the folder; None when there is no such file."""
    data = read_bytes(folder, name)
    return None if data is None else parse_object(data, where_of(folder, name))


def where_of(folder: str, name: str) -> str:
    return f"{os.path.basename(os.path.normpath(folder))}/{name}"


def _steps(part) -> list[dict]:
    """The steps of a decoder or normalizer, a sequence taken apart."""
    if not isinstance(part, dict):
        return []
    inner = part.get("decoders", part.get("normalizers"))
    return [step for it in _list(inner) for step in _steps(it)] if part.get("type") == "Sequence" else [part]


def _list(value) -> list:
    return value if isinstance(value, list) else []


def _switch(settings: dict, key: str, otherwise: bool) -> bool:
    value = settings.get(key)
    return value if isinstance(value, bool) else otherwise
