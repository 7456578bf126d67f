"""How tokens are chosen and answers end, as a caller states it. What each number means is in docs/engine.md; its range
is checked by the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from vortex_attention import _core
from vortex_attention.errors import UserError

_MOST_STOPS, _LONGEST_STOP = 64, 4096


@dataclasses.dataclass(frozen=True)
class Sampling:
    """temperature 0 takes the likeliest token; else `seed` and the position alone decide a draw. The order in which the
    others apply: logit_bias, penalties, temperature, top_k, typical_p, top_p, min_p."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)  # token: added to its logit, -inf bans it
    top_logprobs: int = 0  # report so many of the likeliest tokens at each step
    stop: Sequence[str] = ()  # texts that end an answer and are left out of it
    stop_tokens: Sequence[int] = ()  # tokens that end an answer, beside the model's own

    def __post_init__(self) -> None:
        stop = [self.stop] if isinstance(self.stop, str) else list(self.stop)
        object.__setattr__(self, "stop", tuple(stop))
        if self.max_tokens < 1:
            raise UserError("max_tokens", "at least 1", f"got {self.max_tokens}", "raise it")
        if (
            not all(isinstance(text, str) and 0 < len(text) <= _LONGEST_STOP for text in stop)
            or len(stop) > _MOST_STOPS
        ):
            required = f"at most {_MOST_STOPS} texts of 1 to {_LONGEST_STOP} letters"
            raise UserError("stop", required, f"got {_shown(stop)}", "change what is no such text")

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Sampling:
        """From settings by name, where a wrong name is an error that says the nearest one."""
        names = [field.name for field in dataclasses.fields(cls)]
        for name in settings:
            if name not in names:
                near = _core.nearest_name(name, names)
                todo = f"did you mean {near}?" if near else "leave it out"
                raise UserError("sampling", f"settings among {', '.join(names)}", f"got {name!r}", todo)
        return cls(**settings)

    def params(self) -> _core.SamplingParams:
        """What the engine takes; UserError where a value is of another kind."""
        names = ("temperature", "top_k", "top_p", "seed", "min_p", "typical_p", "repetition_penalty")
        names += ("presence_penalty", "frequency_penalty", "top_logprobs")
        values = {name: getattr(self, name) for name in names} | {"logit_bias": dict(self.logit_bias)}
        try:
            return _core.SamplingParams(**values)
        except TypeError:
            came = ", ".join(f"{name} {value!r}" for name, value in values.items() if not _is_kind_of(name, value))
            required = "numbers, whole ones for top_k, seed and top_logprobs, and a logit_bias {token: number}"
            raise UserError("sampling", required, f"got {came[:200]}", "give another value") from None


def _is_kind_of(name: str, value: object) -> bool:
    """Whether the engine's type can hold it."""
    try:
        _core.SamplingParams(**{name: value})
    except TypeError:
        return False
    return True


def _shown(stop: list) -> str:
    wrong = [text for text in stop if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_STOP]
    return f"{wrong[0]!r}"[:60] if wrong else f"{len(stop)} of them"


class StopStrings:
    """Text as it comes, cut before the first stop string: text that may be the beginning of one is held back until it
    is known not to be."""

    def __init__(self, stops: Sequence[str]):
        self.found: str | None = None
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str, last: bool = False) -> str:
        """What can be said now. `last`: nothing follows. Says nothing once a stop string was found."""
        if self.found is not None:
            return ""
        text = self._held + text
        # The one that ends first wins, for that is where a reader of the stream would have stopped; then the longest.
        ends = [(at + len(stop), -len(stop), stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            end, _, self.found = min(ends)
            self._held = ""
            return text[: end - len(self.found)]
        hold = 0 if last else self._beginning(text)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def _beginning(self, text: str) -> int:
        """The length of the longest end of `text` that begins a stop string."""
        for size in range(min(len(text), max(map(len, self._stops), default=1) - 1), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
