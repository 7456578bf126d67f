"""Scores of one item from the logits of its answer. Everything is teacher-forced: the arm is fed the right answer token by
token, so arms are compared at the same positions. Greedy decoding gives the answer exactly when the best token of every
position is the answer's, so exact match needs no separate run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """One arm on one item. Log-probability and KL are means over the answer's tokens, in nats."""

    exact: bool
    log_probability: float
    kl: float  # KL(full ‖ arm)
    attended_tokens: float  # mean over rows, layers and steps, as the engine counted them


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in double precision."""
    wide = np.asarray(logits, dtype=np.float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


class Reference:
    """Full attention's logits on one answer, [answer tokens, vocabulary], against which arms are scored; what does not depend on the
    arm is computed once."""

    def __init__(self, full_logits: np.ndarray, answer: Sequence[int]):
        self.answer = tuple(int(token) for token in answer)
        self.probabilities = np.empty(np.shape(full_logits), dtype=np.float64)
        self.exact, self.log_probability, self.negentropy = [], [], []
        for row, token, out in zip(full_logits, self.answer, self.probabilities):
            shifted, total = _shifted(row, out)
            out /= total
            self.exact.append(int(row.argmax()) == token)
            self.log_probability.append(shifted[token] - np.log(total))
            self.negentropy.append(float(out @ shifted) - np.log(total))

    def row(self, position: int, logits: np.ndarray) -> tuple[bool, float, float]:
        """Of an arm's logits [vocabulary] there: whether the answer's token is the likeliest, its log-probability, KL(full ‖ arm)."""
        shifted, total = _shifted(logits)
        token, cross = self.answer[position], float(self.probabilities[position] @ shifted) - np.log(total)
        kl = self.negentropy[position] - cross
        return int(logits.argmax()) == token, float(shifted[token] - np.log(total)), float(kl)

    def outcome(self, rows: Sequence[tuple[bool, float, float]], attended_tokens: float) -> Outcome:
        """Of `row` at every position."""
        exact, log_probability, kl = zip(*rows)
        return Outcome(all(exact), float(np.mean(log_probability)), float(np.mean(kl)), attended_tokens)

    def full(self, attended_tokens: float) -> Outcome:
        """Of full attention itself."""
        return Outcome(all(self.exact), float(np.mean(self.log_probability)), 0.0, attended_tokens)


def _shifted(row: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Logits [vocabulary] below their largest, in double precision, and the sum of their exponentials, which `out` is filled with."""
    wide = row.astype(np.float64)
    wide -= wide.max()
    return wide, float(np.exp(wide, out=out).sum())


def score(full_logits: np.ndarray, arm_logits: np.ndarray, answer: tuple[int, ...], attended_tokens: float) -> Outcome:
    """full_logits, arm_logits: [answer tokens, vocabulary]."""
    reference = Reference(full_logits, answer)
    rows = [reference.row(position, logits) for position, logits in enumerate(arm_logits)]
    return reference.outcome(rows, attended_tokens)
