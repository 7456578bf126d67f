"""Where a model comes from: a GGUF file, a Hugging Face folder, or a config alone with made-up weights. Everything else
sees a model through `Source`, whatever its files look like."""

import abc

from vortex_attention import _core
from vortex_attention.models.tokenizer import Tokenizer
from vortex_attention.models.weights import Weight


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
    def tokenizer(self) -> Tokenizer: ...

    @abc.abstractmethod
    def chat_template(self) -> str | None:
        """Its text, where the files have one."""

    @abc.abstractmethod
    def sha256(self) -> str:
        """Of what the weights are read from, for records of what was measured."""
