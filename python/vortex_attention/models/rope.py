"""Scaled RoPE, whatever a file calls it, as two things: what the frequency of each pair of channels is divided by, and
what rotated channels are multiplied by (both as ModelConfig takes them)."""

import math
from dataclasses import dataclass

import numpy as np

from vortex_attention.errors import UserError


@dataclass(frozen=True)
class Rope:
    divisors: tuple[float, ...] = ()  # one a pair; empty: not scaled
    magnitude: float = 1.0


def _frequencies(dim: int, base: float) -> np.ndarray:
    return base ** (-np.arange(0, dim, 2) / dim)


def linear(dim: int, factor: float) -> Rope:
    """Positions divided by a factor."""
    return Rope((factor,) * (dim // 2))


def llama3(dim: int, base: float, factor: float, low: float, high: float, original: int) -> Rope:
    """Llama 3.1's: waves that fit `high` times into the original context stay, those that do not fit `low` times are
    stretched by the factor, those in between by something in between."""
    turns = original * _frequencies(dim, base) / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return Rope(tuple((1 / ((1 - smooth) / factor + smooth)).tolist()))


def yarn(
    dim: int, base: float, factor: float, original: int, fast: float, slow: float, magnitude: float | None = None
) -> Rope:
    """YaRN (Peng et al., 2023): like llama3, but the ramp runs over the index of the pair, between those that turn
    `fast` and `slow` times in the original context. magnitude: None for the paper's."""

    def pair(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = max(math.floor(pair(fast)), 0), min(math.ceil(pair(slow)), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - first) / max(last - first, 0.001), 0, 1)
    divisors = 1 / (ramp / factor + 1 - ramp)
    return Rope(tuple(divisors.tolist()), yarn_magnitude(factor) if magnitude is None else magnitude)


def yarn_magnitude(factor: float, scale: float = 1.0) -> float:
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0


def check(where: str, **values: float) -> None:
    """Numbers of a file that formulas divide by or take logarithms of."""
    for name, value in values.items():
        if not (math.isfinite(value) and 0 < value < 1e12):
            raise UserError(
                where, f"{name} of RoPE above 0 and below 1e12", f"got {value}", "the file is damaged, fetch it again"
            )
