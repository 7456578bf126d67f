"""What a gate asks beside its numbers: whether speed and accuracy are those of one thing, and whether a flow is one that can win.

Each question answers "" or why not, in words for the ledger. A flow is data and cannot see who measures it, but it sees lengths, steps
and keys: so what it read is compared between the two measurements, and what happens once in many steps must happen in the timed ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from .. import _core

READING = 1.1  # a row may read so many times as much where accuracy is measured as where speed is, and one page
ALL = 0.98  # of a row's tokens


@dataclass(frozen=True)
class Reading:
    """tokens: that a row attended, a mean over rows, layers and steps, as the engine counted; of: that full attention did there."""

    tokens: float
    of: float


def hidden_work(program: _core.Program, steps: int) -> str:
    """Pages are chosen once in refresh_every steps, and the first step is not timed."""
    every = program.config.refresh_every
    if steps % every == 0:
        return ""
    return f"[discover] a choice of pages in its share of the {steps} steps that are timed; refresh_every={every}; set it to a divisor of {steps}"


def no_promise(program: _core.Program, price: dict) -> str:
    """By the bytes of a step. Of a flow that selects by itself the price is an upper bound, and what it reads is seen when it is timed."""
    if price["step_speedup"] > 1.0 or "select" in json.loads(program.json()):
        return ""
    return (
        f"[discover] fewer bytes a step than full attention; {price['step_speedup']:.2f} times its speed by bytes; "
        "attend fewer pages or remember less of each"
    )


def speed_limit(price: dict, read: Reading) -> float:
    """Times full attention's speed, by the bytes of attention. Weights are left out: a byte of them may cost less than one of attention, and
    whatever it costs brings the two nearer to each other."""
    return price["full_attention_bytes"] / attention_bytes(price, read)


def attention_bytes(price: dict, read: Reading) -> float:
    """Of a step: what its price says is scored and selected, and no more attended than was counted."""
    attended = min(price["attend_bytes"], price["full_attention_bytes"] * read.tokens / read.of)
    return price["score_bytes"] + price["select_bytes"] + attended


def reads_all(read: Reading) -> str:
    if read.tokens < ALL * read.of:
        return ""
    return f"attends {read.tokens:.0f} of {read.of:.0f} tokens a row: full attention under another name"


def two_faced(accuracy: Reading, speed: Reading, page_size: int) -> str:
    """More read where accuracy is measured: more tokens, and a larger share of what there was. A budget that grows with the sequence
    does only one of the two."""
    if (
        accuracy.tokens <= READING * speed.tokens + page_size
        or accuracy.tokens / accuracy.of <= READING * speed.tokens / speed.of
    ):
        return ""
    return (
        f"reads {accuracy.tokens:.0f} of {accuracy.of:.0f} tokens a row where accuracy is measured and "
        f"{speed.tokens:.0f} of {speed.of:.0f} where speed is"
    )


def no_need(gain: float, control: str, least: float) -> tuple[str, str, str] | None:
    """Items that a control answers cannot tell flows apart. What was required, what came, what to do."""
    if gain < -least:
        return None
    return (
        f"items on which the control {control} loses at least {least:.2f} nat",
        f"it loses {max(0.0, -gain):.2f}",
        "raise --length, or take a model that can do the task",
    )
