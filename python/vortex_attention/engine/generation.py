"""Text from prompts: a model, an engine and, if wanted, a flow. Many prompts run together; each answer is streamed.

generator = Generator("smollm2", flow="quest")
for answer in generator.generate(["Why is the sky blue?", "Name three birds."]):
    print(answer.text)
"""

from __future__ import annotations

import collections
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence

from vortex_attention import _core
from vortex_attention.errors import InternalError, UserError
from vortex_attention.models import LoadedModel, load_model
from vortex_attention.models.tokenizer import Stream


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. temperature 0 takes the likeliest; `seed` and the position alone decide a draw."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


@dataclasses.dataclass
class Answer:
    """What came out for one prompt. finished: stop, length, context, aborted or failed."""

    text: str = ""
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    finished: str = "none"
    prompt_tokens: int = 0

    def as_json(self) -> dict:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some text of the answer to prompt `index`; `answer` is the whole of it once it is finished."""

    index: int
    text: str
    answer: Answer | None = None


@dataclasses.dataclass
class _Run:
    """A request that runs: what it has said, and where its pieces go."""

    index: int
    answer: Answer
    text: Stream
    pieces: collections.deque[Piece]


class Generator:
    """A model ready to answer. `flow`: a ready flow's name or a .py file, None for full attention; `overrides`: its
    settings."""

    def __init__(
        self,
        model: str | os.PathLike | LoadedModel,
        *,
        flow: str | None = None,
        overrides: dict[str, str] | None = None,
        threads: int = 0,
        **engine_config,
    ):
        self.loaded = model if isinstance(model, LoadedModel) else load_model(model, threads=threads)
        self.engine = _core.Engine(self.loaded.model, _core.EngineConfig(threads=threads, **engine_config))
        self.stop_tokens = self.loaded.stop_tokens  # end an answer
        self.flow = _core.FULL_ATTENTION
        if flow is not None:
            from vortex_attention.language import load_flow

            self.flow = self.engine.load_flow(load_flow(flow, **(overrides or {})))
        self._running: dict[int, _Run] = {}
        self._seconds = 0.0

    def encode(self, prompt: str, *, chat: bool = True, system: str | None = None) -> list[int]:
        """Tokens of a prompt, in the model's chat template unless chat is False."""
        if not chat:
            return self.loaded.tokenizer.encode(prompt)
        if self.loaded.chat_template is None:
            raise UserError(
                self.loaded.name,
                "a model with a chat template",
                "its file has none",
                "give the prompt as it is (--raw)",
            )
        messages = [] if system is None else [{"role": "system", "content": system}]
        return self.loaded.chat_template.encode([*messages, {"role": "user", "content": prompt}])

    def generate(
        self, prompts: Sequence[str], sampling: Sampling = Sampling(), *, chat: bool = True, system: str | None = None
    ) -> list[Answer]:
        """The answers, in the order of the prompts."""
        answers: list[Answer] = [Answer()] * len(prompts)
        for piece in self.stream([self.encode(prompt, chat=chat, system=system) for prompt in prompts], sampling):
            if piece.answer is not None:
                answers[piece.index] = piece.answer
        return answers

    def stream(self, prompts: Sequence[Sequence[int]], sampling: Sampling = Sampling()) -> Iterator[Piece]:
        """Pieces of text as they come, of all prompts together. Leaving the loop early aborts what still runs. Several
        streams of one generator may be open: each step serves them all."""
        if sampling.max_tokens < 1:
            raise UserError("max_tokens", "at least 1", f"got {sampling.max_tokens}", "raise it")
        pieces: collections.deque[Piece] = collections.deque()
        mine: dict[int, int] = {}  # index of a prompt: its request
        try:
            for index, prompt in enumerate(prompts):
                mine[index] = self._submit(prompt, sampling)
                text = self.loaded.tokenizer.stream()
                self._running[mine[index]] = _Run(index, Answer(prompt_tokens=len(prompt)), text, pieces)
            while mine:
                while not pieces:
                    self._step()
                piece = pieces.popleft()
                if piece.answer is not None:
                    del mine[piece.index]
                    if piece.answer.finished == "failed":
                        todo = "this is a defect of Vortex or of the model's weights"
                        raise InternalError("generate", "logits that are numbers", "the model gave others", todo)
                yield piece
        finally:
            for request in mine.values():
                self._running.pop(request, None)
                self.engine.abort(request)

    def _submit(self, prompt: Sequence[int], sampling: Sampling) -> int:
        return self.engine.submit(
            list(prompt),
            max_new_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop_tokens=self.stop_tokens,
            flow=self.flow,
        )

    def _step(self) -> None:
        """One step of the engine; each event becomes a piece of the stream it belongs to."""
        start = time.perf_counter()
        events = self.engine.step()
        self._seconds += time.perf_counter() - start
        for event in events:
            run = self._running.get(event.request)
            if run is None:  # of a stream that was left
                continue
            text = ""
            if event.token >= 0:
                run.answer.tokens.append(event.token)
                run.answer.logprobs.append(event.logprob)
                text = run.text.push(event.token)
            finished = event.finished != "none"
            if finished:
                text += run.text.finish()
                run.answer.finished = event.finished
                del self._running[event.request]
            run.answer.text += text
            run.pieces.append(Piece(run.index, text, run.answer if finished else None))

    def summary(self) -> str:
        """One line on what was done, and how fast."""
        statistics = self.engine.statistics()
        rate = statistics.decode_tokens / self._seconds if self._seconds else 0.0
        written = f"{statistics.prefill_tokens} prompt tokens, {statistics.decode_tokens} tokens written"
        return f"{written}, {self._seconds:.1f} s, {rate:.1f} tokens/s in all"
