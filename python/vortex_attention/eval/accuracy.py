"""Runs items through arms. An item is prefilled once and forked for every arm; the last prompt token and the answer are
decoded through the arm, so every logit that is scored comes from the path under test."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np

from ..measure.finite import require_finite
from ..measure.statistics import mean_interval, proportion_interval
from .needle import NeedleItem
from .score import Outcome, score

FULL = "full"


def answer_logits(workbench, sequence: int, item: NeedleItem) -> np.ndarray:
    """Logits [answer tokens, vocabulary] at each token of the answer, teacher-forced. `sequence` holds prompt[:-1]."""
    rows = []
    for token in (item.prompt[-1], *item.answer[:-1]):
        rows.append(np.array(workbench.decode([sequence], [token])[0], dtype=np.float32))
    return np.stack(rows)


def run_items(
    workbench,
    items: Sequence[NeedleItem],
    arms: dict[str, int],
    progress: Callable[[int], None],
    inspect: Callable[[str, NeedleItem, int], None] | None = None,
    measured: Callable[[NeedleItem, dict[str, Outcome]], None] | None = None,
) -> dict[str, list[Outcome]]:
    """Outcomes of each arm, one an item in order. arms: name → flow id of the workbench; FULL is always run, as baseline.

    `measured(item, outcome by arm)` and then `progress(i)` are called after item i, `inspect(arm, item, sequence)` while an arm's
    sequence is still held.
    """
    outcomes: dict[str, list[Outcome]] = {FULL: [], **{name: [] for name in arms}}
    for index, item in enumerate(items):
        base = workbench.prefill(list(item.prompt[:-1]))
        try:
            baseline = None
            for name, flow in {FULL: -1, **arms}.items():
                sequence = workbench.fork(base, flow)
                try:
                    workbench.reset_statistics()
                    logits = answer_logits(workbench, sequence, item)
                    require_finite(logits, "eval", full=flow < 0)
                    counted = workbench.statistics
                    baseline = logits if baseline is None else baseline
                    tokens = counted.attended_tokens / counted.rows
                    outcomes[name].append(score(baseline, logits, item.answer, tokens))
                    if inspect:
                        inspect(name, item, sequence)
                finally:
                    workbench.release(sequence)
        finally:
            workbench.release(base)
        if measured:
            measured(item, {name: arm[-1] for name, arm in outcomes.items()})
        progress(index)
    return outcomes


def summarise(outcomes: dict[str, list[Outcome]]) -> list[dict]:
    """A JSON-ready row for each arm, with intervals; `loss` is the paired loss of log-probability against full."""
    full = outcomes[FULL]
    rows = []
    for name, arm in outcomes.items():
        losses = [theirs.log_probability - ours.log_probability for theirs, ours in zip(full, arm)]
        rows.append(
            {
                "name": name,
                "exact": proportion_interval(sum(outcome.exact for outcome in arm), len(arm)).to_json(),
                "log_probability": mean_interval([outcome.log_probability for outcome in arm]).to_json(),
                "loss": mean_interval(losses).to_json(),
                "kl": mean_interval([outcome.kl for outcome in arm]).to_json(),
                "attended_tokens": sum(outcome.attended_tokens for outcome in arm) / len(arm),
                "outcomes": [vars(outcome) for outcome in arm],
            }
        )
    return rows
