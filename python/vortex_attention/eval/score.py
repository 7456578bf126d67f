"""Scores of one item from the logits of its answer. Everything is teacher-forced: the arm is fed the right answer token by
token, so arms are compared at the same positions. Greedy decoding gives the answer exactly when the best token of every
position is the answer's, so exact match needs no separate run."""

from __future__ import annotations

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


def score(full_logits: np.ndarray, arm_logits: np.ndarray, answer: tuple[int, ...], attended_tokens: float) -> Outcome:
    """full_logits, arm_logits: [answer tokens, vocabulary]."""
    full, arm = log_softmax(full_logits), log_softmax(arm_logits)
    positions = np.arange(len(answer))
    tokens = np.asarray(answer)
    divergence = (np.exp(full) * (full - arm)).sum(axis=-1)
    return Outcome(
        exact=bool((arm.argmax(axis=-1) == tokens).all()),
        log_probability=float(arm[positions, tokens].mean()),
        kl=float(divergence.mean()),
        attended_tokens=attended_tokens,
    )
