"""A model ready to run: load_model, and what it gives."""

import functools
import os
import time
from dataclasses import dataclass

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.models.chat import ChatTemplate
from vortex_attention.models.memory import memory_of
from vortex_attention.models.open import open_source
from vortex_attention.models.source import Source
from vortex_attention.models.tokenizer import Tokenizer
from vortex_attention.models.weights import Weights


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, with what turns text into its tokens and back."""

    source: Source
    model: _core.Model
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None  # None: the file has none
    load_seconds: float
    device: str = "cpu"  # where its weights lie and its steps run

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def path(self) -> str:
        return self.source.path

    @property
    def config(self) -> _core.ModelConfig:
        return self.source.config

    @property
    def chunk_tokens(self) -> int:
        """Prompt tokens of a step: on a device as many as its linears like."""
        return _core.EngineConfig().chunk_tokens if self.device == "cpu" else 2048

    @functools.cached_property
    def sha256(self) -> str:
        """Of its files, for records of what was measured; read when first asked for."""
        return self.source.sha256()

    def chat(self, user: str, answer_start: str = "") -> str:
        """The text of one question up to where the model answers, the answer beginning with `answer_start`; its
        tokens are tokenizer.encode(text, control=True)."""
        if self.chat_template is None:
            raise UserError(
                self.name, "a model with a chat template", "its file has none", "give the prompt as it is (--raw)"
            )
        return self.chat_template.render([{"role": "user", "content": user}]) + answer_start

    def next_turn(self, user: str) -> str:
        """The text of a conversation from the end of an answer to where the model answers `user`."""
        before, mark = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\ue000"}], "\ue000"
        frame = self.chat_template.render([*before, {"role": "user", "content": user}]).partition(mark)[2]
        if not frame:
            raise UserError(
                self.name,
                "a chat template that keeps an answer's text",
                "its template drops or changes it",
                "use another model",
            )
        return frame

    @property
    def stop_tokens(self) -> list[int]:
        """Tokens that end an answer."""
        return self.tokenizer.stop_tokens


def load_model(
    name_or_path: str | os.PathLike | Source,
    threads: int = 0,
    load_format: str = "auto",
    seed: int = 0,
    device: str = "cpu",
) -> LoadedModel:
    """`name_or_path`: a known model's name, the path of a .gguf file or of a Hugging Face folder, or a source that is
    open. threads: that prepare the weights, 0 for all cores. load_format, seed: see open_source. device: cpu or cuda, where
    the weights go and what is made of the model runs. MachineError when there is not enough memory."""
    start = time.perf_counter()
    is_open = isinstance(name_or_path, Source)
    source = name_or_path if is_open else open_source(name_or_path, load_format, seed)
    tokenizer = source.tokenizer()
    tokenizer.cover(source.config.vocabulary)
    if device == "cpu":
        memory_of(source, batch=1).require()
    model = _core.make_model(source.config, Weights(source.weights()), threads, device=device)
    template = source.chat_template()
    chat_template = None if template is None else ChatTemplate(template, tokenizer, source.where)
    return LoadedModel(source, model, tokenizer, chat_template, time.perf_counter() - start, device)
