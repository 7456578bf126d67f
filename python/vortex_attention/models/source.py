"""Where a model comes from: a GGUF file, a Hugging Face folder, or a config alone with made-up weights. Everything else
sees a model through `Source`, whatever its files look like."""

import abc
import os

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.models.weights import Weight

FORMATS = ("auto", "dummy")


class Source(abc.ABC):
    """`name`: for people; `path`: the file or the folder; `where`: in messages; `config`: what the files say of the
    architecture, checked. Nothing is read from a weight before `weights()` is asked for it."""

    name: str
    path: str
    where: str
    config: _core.ModelConfig

    @abc.abstractmethod
    def weights(self) -> dict[str, Weight]:
        """By HF name, channels of q and k in HF order."""

    @abc.abstractmethod
    def tokenizer(self): ...

    @abc.abstractmethod
    def chat_template(self) -> str | None: ...

    @abc.abstractmethod
    def sha256(self) -> str:
        """Of what the weights are read from, for records of what was measured."""


def open_source(name_or_path: str | os.PathLike, load_format: str = "auto") -> Source:
    """Of a known model (fetched when it is not there yet), a .gguf file or a Hugging Face folder. load_format "dummy":
    of the config alone, with random weights."""
    from vortex_attention.models import fetch
    from vortex_attention.models.gguf_source import GgufSource

    if load_format not in FORMATS:
        near = _core.nearest_name(load_format, list(FORMATS))
        todo = f"did you mean {near}?" if near else "leave it out to load what is there"
        raise UserError("--load-format", f"one of {', '.join(FORMATS)}", f"got {load_format!r}", todo)
    name = os.fspath(name_or_path)
    if name in fetch.MODELS:
        return GgufSource(os.fspath(fetch.fetch(name)), name)
    if os.path.exists(name) or os.sep in name or name.endswith(".gguf"):
        return GgufSource(name)
    near = _core.nearest_name(name, list(fetch.MODELS))
    required = f"the path of a .gguf file or one of the models {', '.join(fetch.MODELS)}"
    raise UserError("model", required, f"got {name!r}", f"did you mean {near}?" if near else "check the name")
