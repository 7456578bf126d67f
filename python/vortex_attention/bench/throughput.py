"""Offline throughput: a mix of lengths through the serving engine, from the first request to the last token, prefill and scheduling included.
Every run has a new engine, so nothing is cached from the run before; every answer must have all its tokens. On a device an engine first takes
the same lengths with other tokens: its graphs are captured then, and not in the time that counts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import _core
from ..errors import InternalError
from ..measure.statistics import Interval, median, ratio_interval
from .mixes import Conversation, Turn


@dataclass(frozen=True)
class MixRun:
    """One run of a mix through one arm. digest: of all answers; tokens: made; prompt_tokens: of all prompts, found in the prefix cache or not."""

    seconds: float
    tokens: int
    prompt_tokens: int
    prefix_hit_tokens: int
    preemptions: int
    steps: int
    digest: str

    def observed(self) -> dict:
        return {key: value for key, value in vars(self).items() if key != "seconds"}


def run_mix(model, program, conversations: Sequence[Conversation], config: _core.EngineConfig) -> MixRun:
    """program: of a flow; None: full attention."""
    engine = _core.Engine(model, config)
    flow = _core.FULL_ATTENTION if program is None else engine.load_flow(program)
    if model.device != "cpu":
        _answered(engine, flow, with_other_tokens(conversations, model.config.vocabulary))
    before = engine.statistics()
    began = time.perf_counter()
    said, made, prompt_tokens = _answered(engine, flow, conversations)
    seconds = time.perf_counter() - began
    after = engine.statistics()
    if seconds < 0.99 * (after.seconds - before.seconds):
        raise InternalError(
            "bench",
            "a clock that runs until the engine has finished",
            f"{seconds:.3f} s for steps that took the engine {after.seconds - before.seconds:.3f}",
            "report this as a defect",
        )
    counted = [getattr(after, name) - getattr(before, name) for name in ("prefix_hit_tokens", "preemptions", "steps")]
    digest = hashlib.sha256(b"".join(np.asarray(tokens, dtype=np.int32).tobytes() for tokens in said)).hexdigest()[:16]
    return MixRun(seconds, made, prompt_tokens, *counted, digest)


def with_other_tokens(conversations: Sequence[Conversation], vocabulary: int) -> list[Conversation]:
    """The same lengths, and no beginning in common with the given ones."""
    return [
        Conversation(
            tuple(
                Turn(tuple((token + 1) % vocabulary for token in turn.tokens), turn.answer)
                for turn in conversation.turns
            )
        )
        for conversation in conversations
    ]


def _answered(engine, flow: int, conversations: Sequence[Conversation]) -> tuple[list[list[int]], int, int]:
    """All requests to the last token: the tokens of each conversation, how many were made, how many the prompts had."""
    said: list[list[int]] = [[] for _ in conversations]  # all tokens of a conversation so far
    turn = [0] * len(conversations)
    answers: dict[int, tuple[int, list[int]]] = {}
    made = prompt_tokens = 0

    def submit(which: int) -> None:
        nonlocal prompt_tokens
        wanted = conversations[which].turns[turn[which]]
        said[which] += wanted.tokens
        prompt_tokens += len(said[which])
        request = engine.submit(list(said[which]), max_new_tokens=wanted.answer, flow=flow)
        answers[request] = (which, [])

    for which in range(len(conversations)):
        submit(which)
    while answers:
        for event in engine.step():
            which, answer = answers[event.request]
            if event.token >= 0:
                answer.append(event.token)
            if event.finished == "none":
                continue
            asked = conversations[which].turns[turn[which]].answer
            if event.finished != "length" or len(answer) != asked:
                raise InternalError(
                    "bench",
                    f"an answer of {asked} tokens to each request",
                    f"one of {len(answer)} that ended by {event.finished}",
                    "report this as a defect",
                )
            del answers[event.request]
            made += len(answer)
            said[which] += answer
            turn[which] += 1
            if turn[which] < len(conversations[which].turns):
                submit(which)
    return said, made, prompt_tokens


@dataclass
class MixArm:
    """All runs of one arm on one mix; quartets: baseline, arm, arm, baseline, by the baseline's name."""

    name: str
    runs: list[MixRun] = field(default_factory=list)
    quartets: dict[str, list[tuple[MixRun, MixRun, MixRun, MixRun]]] = field(default_factory=dict)

    def ratio(self, baseline: str) -> Interval | None:
        """The baseline's seconds ÷ this arm's."""
        found = self.quartets.get(baseline)
        if not found:
            return None
        return ratio_interval(
            [before.seconds + after.seconds for before, _, _, after in found],
            [first.seconds + second.seconds for _, first, second, _ in found],
        )


def bench_mix(
    model,
    programs: dict,
    conversations: Sequence[Conversation],
    config: _core.EngineConfig,
    *,
    rounds: int,
    incumbent: str = "",
    progress: Callable[[], None] = lambda: None,
    measured: Callable[[str, str, int, tuple[MixRun, ...]], None] = lambda *_: None,
) -> list[MixArm]:
    """Full attention first, then each flow of `programs` in blocks of A B B A beside it, and beside the incumbent, one of them. The same arm gives the
    same answers each time, or it is an error."""
    full, arms = MixArm("full"), [MixArm(name) for name in programs]
    by_name = {arm.name: arm for arm in (full, *arms)}
    digests: dict[str, str] = {}

    def run(name: str) -> MixRun:
        done = run_mix(model, programs.get(name), conversations, config)
        if digests.setdefault(name, done.digest) != done.digest:
            raise InternalError("bench", "the same answers each time", f"{name} gave others", "report this as a defect")
        by_name[name].runs.append(done)
        progress()
        return done

    for number in range(rounds):
        for arm in arms:
            for baseline in (full.name, incumbent):
                if baseline and baseline != arm.name:
                    quartet = (run(baseline), run(arm.name), run(arm.name), run(baseline))
                    arm.quartets.setdefault(baseline, []).append(quartet)
                    measured(arm.name, baseline, number, quartet)
        if not arms:
            run(full.name)
    return [full, *arms]


def summarise(arm: MixArm, incumbent: str = "") -> dict:
    """JSON-ready: medians over runs and the paired ratios."""
    seconds, ratio, beside = median([run.seconds for run in arm.runs]), arm.ratio("full"), arm.ratio(incumbent)
    one = arm.runs[0]
    return {
        "name": arm.name,
        "seconds": seconds,
        "tokens": one.tokens,
        "prompt_tokens": one.prompt_tokens,
        "prefix_hit_tokens": one.prefix_hit_tokens,
        "preemptions": max(run.preemptions for run in arm.runs),
        "tokens_per_second": one.tokens / seconds,
        "ratio": ratio.to_json() if ratio else None,
        "ratio_to_incumbent": beside.to_json() if beside else None,
    }
