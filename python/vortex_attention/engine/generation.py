"""Text from prompts: a model, an engine and, if wanted, a flow. Many prompts run together; each answer is streamed.

generator = Generator("smollm2", flow="quest")
for answer in generator.generate(["Why is the sky blue?", "Name three birds."]):
    print(answer.text)
"""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
import time
from collections.abc import Iterator, Sequence

from vortex_attention import _core
from vortex_attention.engine.pages import physical_page_size
from vortex_attention.engine.sampling import Sampling, StopStrings
from vortex_attention.errors import InternalError, UserError
from vortex_attention.models import LoadedModel, Source, load_model
from vortex_attention.models.tokenizer import Stream


@dataclasses.dataclass
class Answer:
    """What came out for one prompt. finished: stop, length, context or aborted. `text` ends before a stop string;
    `tokens` has all that were made. top_logprobs: the likeliest (token, log-probability) of each step, if asked for."""

    text: str = ""
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    top_logprobs: list[list[tuple[int, float]]] = dataclasses.field(default_factory=list)
    finished: str = "none"
    stopped_by: str | int | None = None  # the stop string or the token that ended it
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
    stop: StopStrings
    pieces: collections.deque[Piece]
    top: bool  # keeps top_logprobs


class Generator:
    """A model ready to answer. `flow`: a ready flow's name or a .py file, None for full attention; `overrides`: its
    settings; `device`: where a model that is not loaded yet goes, cpu or cuda."""

    def __init__(
        self,
        model: str | os.PathLike | Source | LoadedModel,
        *,
        flow: str | None = None,
        overrides: dict[str, str] | None = None,
        threads: int = 0,
        device: str = "cpu",
        **engine_config,
    ):
        self.loaded = model if isinstance(model, LoadedModel) else load_model(model, threads=threads, device=device)
        engine_config.setdefault("chunk_tokens", self.loaded.chunk_tokens)
        program = None
        if flow is not None:
            from vortex_attention.flows import load_flow

            program = load_flow(flow, **(overrides or {}))
            engine_config.setdefault("page_size", physical_page_size([program.config.page_size]))
        self.engine = _core.Engine(self.loaded.model, _config(threads=threads, **engine_config))
        self.stop_tokens = self.loaded.stop_tokens  # end an answer
        self.flow = _core.FULL_ATTENTION if program is None else self.engine.load_flow(program)
        self._running: dict[int, _Run] = {}
        self._lock = threading.Lock()  # a request and its _Run, a step and its events: one thread at a time
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
        pieces: collections.deque[Piece] = collections.deque()
        mine: dict[int, int] = {}  # index of a prompt: its request
        try:
            for index, prompt in enumerate(prompts):
                mine[index] = self._submit(index, prompt, sampling, pieces)
            while mine:
                while not pieces:
                    self._step(pieces)
                piece = pieces.popleft()
                if piece.answer is not None:
                    del mine[piece.index]
                    _check(piece.answer)
                yield piece
        finally:
            with self._lock:
                for request in mine.values():
                    self._running.pop(request, None)
                    self.engine.abort(request)

    def _submit(self, index: int, prompt: Sequence[int], sampling: Sampling, pieces: collections.deque[Piece]) -> int:
        stop = StopStrings(sampling.stop)
        run = _Run(
            index,
            Answer(prompt_tokens=len(prompt)),
            self.loaded.tokenizer.stream(),
            stop,
            pieces,
            sampling.top_logprobs > 0,
        )
        vocabulary = self.loaded.config.vocabulary
        for token in sampling.stop_tokens:
            if not 0 <= token < vocabulary:
                raise UserError(
                    "sampling",
                    f"stop tokens below the vocabulary of {vocabulary}",
                    f"token {token}",
                    "take the tokens from the model's own tokenizer",
                )
        with self._lock:
            request = self.engine.submit(
                list(prompt),
                max_new_tokens=sampling.max_tokens,
                sampling=sampling.params(),
                stop_tokens=[*self.stop_tokens, *sampling.stop_tokens],
                flow=self.flow,
            )
            self._running[request] = run
        return request

    def _step(self, wanted: collections.deque[Piece]) -> None:
        """One step of the engine; each event becomes a piece of the stream it belongs to. Does nothing when another
        thread's step has filled `wanted` meanwhile."""
        with self._lock:
            if wanted:
                return
            start = time.perf_counter()
            events = self.engine.step()
            self._seconds += time.perf_counter() - start
            for event in events:
                if event.request in self._running:  # else of a stream that was left
                    self._take(event, self._running[event.request])

    def _take(self, event: _core.Event, run: _Run) -> None:
        answer, text, finished = run.answer, "", event.finished
        if event.token >= 0:
            answer.tokens.append(event.token)
            answer.logprobs.append(event.logprob)
            if run.top:
                answer.top_logprobs.append(event.top)
            text = run.text.push(event.token)
        if finished == "stop":
            answer.stopped_by = event.token
        if finished != "none":
            text += run.text.finish()
        text = run.stop.push(text, last=finished != "none")
        if run.stop.found is not None:
            answer.stopped_by = run.stop.found
            if finished == "none":
                self.engine.abort(event.request)
            finished = "stop"
        answer.text += text
        if finished != "none":
            answer.finished = finished
            del self._running[event.request]
        run.pieces.append(Piece(run.index, text, answer if finished != "none" else None))

    def summary(self) -> str:
        """One line on what was done, and how fast."""
        statistics = self.engine.statistics()
        rate = statistics.decode_tokens / self._seconds if self._seconds else 0.0
        written = f"{statistics.prefill_tokens} prompt tokens, {statistics.decode_tokens} tokens written"
        return f"{written}, {self._seconds:.1f} s, {rate:.1f} tokens/s in all"


def _config(**settings) -> _core.EngineConfig:
    names = [name for name in dir(_core.EngineConfig) if not name.startswith("_")]
    for name in settings:
        if name not in names:
            near = _core.nearest_name(name, names)
            todo = f"did you mean {near}?" if near else "leave it out"
            raise UserError("engine", f"settings among {', '.join(names)}", f"got {name!r}", todo)
    return _core.EngineConfig(**settings)


def _check(answer: Answer) -> None:
    if answer.finished == "failed":
        todo = "this is a defect of Vortex or of the model's weights"
        raise InternalError("generate", "logits that are numbers", "the model gave others", todo)
    if answer.finished == "banned":
        raise UserError("logit_bias", "a token that may come next", "every one is banned", "ban fewer tokens")
