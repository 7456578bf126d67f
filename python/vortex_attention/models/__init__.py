"""Models from files: `load_model("smollm2")` or `load_model("path/to/model.gguf")`."""

import functools
import hashlib
import os
import time
from dataclasses import dataclass

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.models.chat import ChatTemplate
from vortex_attention.models.gguf_file import GgufFile
from vortex_attention.models.tokenizer import Tokenizer
from vortex_attention.models.weights import config_of, weights_of

__all__ = ["ChatTemplate", "LoadedModel", "Tokenizer", "load_model", "resolve"]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, with what turns text into its tokens and back."""

    name: str
    path: str
    config: _core.ModelConfig
    model: _core.Model
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None  # None: the file has none
    load_seconds: float

    @functools.cached_property
    def sha256(self) -> str:
        """Of the file, for records of what was measured; read when first asked for."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def chat(self, user: str, answer_start: str = "") -> str:
        """The text of one question up to where the model answers, the answer beginning with `answer_start`; its
        tokens are tokenizer.encode(text, control=True)."""
        if self.chat_template is None:
            raise UserError(
                self.name, "a model with a chat template", "its file has none", "give the prompt as it is (--raw)"
            )
        return self.chat_template.render([{"role": "user", "content": user}]) + answer_start

    @property
    def stop_tokens(self) -> list[int]:
        """Tokens that end an answer."""
        return [] if self.tokenizer.eos is None else [self.tokenizer.eos]


def resolve(name_or_path: str | os.PathLike) -> tuple[str, str]:
    """(name, path) of a known model, fetched when it is not there yet, or of a .gguf file."""
    from vortex_attention.models import fetch

    name = os.fspath(name_or_path)
    if name in fetch.MODELS:
        return name, os.fspath(fetch.fetch(name))
    if os.path.exists(name) or os.sep in name or name.endswith(".gguf"):
        return os.path.basename(name), name
    near = _core.nearest_name(name, list(fetch.MODELS))
    required = f"the path of a .gguf file or one of the models {', '.join(fetch.MODELS)}"
    raise UserError("model", required, f"got {name!r}", f"did you mean {near}?" if near else "check the name")


def load_model(name_or_path: str | os.PathLike, threads: int = 0) -> LoadedModel:
    """`name_or_path`: a known model's name or the path of a .gguf file. threads: that prepare the weights, 0 for all
    cores."""
    name, path = resolve(name_or_path)
    start = time.perf_counter()
    file = GgufFile(path)
    config = config_of(file)
    tokenizer = Tokenizer(file)
    model = _core.make_model(config, weights_of(file, config), threads)
    template = file.metadata.get("tokenizer.chat_template")
    chat_template = ChatTemplate(template, tokenizer, file.where) if isinstance(template, str) else None
    return LoadedModel(name, path, config, model, tokenizer, chat_template, time.perf_counter() - start)
