"""The ablation of a model: lenses learned on the traces of some texts, judged on those of others and, through the model, on text, needles
and RULER. The result is JSON-ready; docs/ablate.md says what each key is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ... import _core
from ...errors import UserError, unknown_name
from ...measure.provenance import numerics, provenance
from ...measure.statistics import mean_interval, proportion_interval
from ...models import load_model
from ..runner import Progress
from ..snapshots import Snapshots
from ..suites import make
from ..suites.context import context_of
from ..suites.screen import ScreenSuite
from ..trace_bed import RECORDING_PAGE, TraceBed
from . import in_model, lenses, on_traces
from .selection import Budget

KINDS = ("text", "needle", "ruler")


@dataclass
class Wanted:
    """What is ablated. texts: traced for judging, as many again for learning. on: suites whose questions the model answers; questions: of
    each; ruler's are one of each task. share: of the mass, for the count of pages."""

    model: str = "smollm2"
    length: int = 2048
    texts: int = 3
    positions: int = 16
    groups: int = 8
    budget: int = 32
    on: Sequence[str] = ("text", "needle")
    questions: int = 8
    steps: int = 8
    tasks: Sequence[str] = ("niah_single_2", "niah_multikey_1", "niah_multivalue", "vt")
    share: float = 0.95
    seed: int = 1
    threads: int = 0
    snapshots: float = 8.0


def ablate(wanted: Wanted, natural, progress: Progress = lambda *_: None) -> dict:
    """The whole result."""
    for kind in wanted.on:
        if kind not in KINDS:
            raise unknown_name("ablate", f"suites among {', '.join(KINDS)}", kind, KINDS, "choose among them")
    bed = TraceBed(wanted.model, {}, natural=natural, threads=wanted.threads, progress=progress)
    geometry = bed.geometry
    if geometry.values_in_keys:
        raise UserError(
            "ablate", "a model with keys of each KV head", f"{bed.name}, whose keys are a latent", "choose another"
        )
    shape = (geometry.layers, geometry.kv_heads, geometry.head_dim)
    lenses.bands_of(geometry.head_dim, wanted.groups)
    suite = ScreenSuite(
        bed.context, items=2 * wanted.texts, length=wanted.length, seed=wanted.seed, positions=wanted.positions
    )
    traces = bed.record(suite.items())
    judged, learned_on = traces[: wanted.texts], traces[wanted.texts :]
    budget = Budget(wanted.budget)
    counts = sorted(
        {geometry.head_dim // 8, geometry.head_dim // 4, 3 * geometry.head_dim // 8, geometry.head_dim // 2}
    )
    made = [
        *lenses.by_band(shape, wanted.groups),
        *lenses.by_variance(learned_on, counts),
        *lenses.by_pca(learned_on, counts),
        *lenses.by_learning(
            learned_on,
            counts,
            wanted.groups,
            budget,
            geometry.scale,
            lambda done, of: progress("learning: layers", done, of),
        ),
        *lenses.by_chance(shape, counts),
    ]
    seen = on_traces.routed(judged, made, budget, geometry, lambda done, of: progress("traces: layers", done, of))
    needed, there = on_traces.pages_that_carry(traces, geometry, wanted.share, budget.page_size)
    rows = [
        {
            "name": lens.name,
            "kind": lens.kind,
            "share": lens.share,
            "recall": float(one.recall.mean()),
            "worst": float(one.recall.min()),
            "error": float(one.error.mean()),
            "heads": np.round(one.recall, 4).tolist(),
        }
        for lens, one in zip(made, seen)
    ]
    result = {
        "schema": 1,
        "provenance": provenance(),
        "model": {"name": bed.name, "sha256": bed.sha256},
        "settings": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(replace(wanted, model=bed.name)).items()
            if key not in ("threads", "snapshots")
        },
        "geometry": {"layers": shape[0], "kv_heads": shape[1], "channels": shape[2]},
        "lenses": rows,
        "pages": pages_summary(needed, there, wanted.share),
        "full": {},
        "questions": {},
    }
    if wanted.on:
        _through_the_model(wanted, bed, natural, made, budget, result, progress)
    return result


def pages_summary(needed: np.ndarray, there: np.ndarray, share: float) -> dict:
    """needed: [positions, layers, kv_heads]; there: pages of the sequence at each position."""
    quarters = np.array_split(np.argsort(there, kind="stable"), 4)
    return {
        "share": share,
        "mean": float(needed.mean()),
        "median": float(np.median(needed)),
        "there": float(there.mean()),
        "heads": np.round(needed.mean(axis=0), 2).tolist(),
        "layers": np.round(needed.mean(axis=(0, 2)), 2).tolist(),
        "positions": [
            {"there": float(there[part].mean()), "mean": float(needed[part].mean()), "median": float(np.median(needed[part])),
             "most": float(needed[part].mean(axis=0).max())}
            for part in quarters if len(part)
        ],
    }  # fmt: skip


def _through_the_model(
    wanted: Wanted, bed: TraceBed, natural, made, budget: Budget, result: dict, progress: Progress
) -> None:
    progress("loading the model", 0, 1)
    loaded = load_model(bed.source, threads=bed.threads)
    context = context_of(loaded, natural)
    asked = questions(wanted, context)
    longest = max(len(question.tokens) for question in asked)
    bench = _core.Workbench(
        loaded.model,
        page_size=RECORDING_PAGE,
        pages=-(-longest // RECORDING_PAGE) + 4,
        max_batch=1,
        threads=bed.threads,
        kv_dtype="bf16",
    )
    from ...fetch import cache_folder

    kept = Snapshots(cache_folder("snapshots"), int(wanted.snapshots * 1e9), lambda line: progress(line, 1, 1))
    fixed = numerics(kv_dtype="bf16", page_size=RECORDING_PAGE)

    def prefill(tokens: Sequence[int]) -> int:
        return kept.sequence(bench, tokens, model_sha256=bed.sha256, numerics=fixed)

    found: dict[str, list[list[in_model.Answered]]] = {kind: [] for kind in wanted.on}
    progress("questions", 0, len(asked))
    for number, question in enumerate(asked):
        answers = in_model.answer(bench, prefill, loaded.model, question, made, budget, bed.threads)
        found[question.kind].append(answers)
        progress("questions", number + 1, len(asked))
    for kind, of_kind in found.items():
        result["questions"][kind] = len(of_kind)
        for which, row in enumerate([result["full"], *result["lenses"]]):
            own = [answers[which] for answers in of_kind]
            full = [answers[0] for answers in of_kind]
            row[kind] = {
                "log_probability": mean_interval([one.log_probability for one in own]).to_json(),
                "loss": mean_interval([a.log_probability - b.log_probability for a, b in zip(full, own)]).to_json(),
                "kl": mean_interval([one.kl for one in own]).to_json(),
                "agreement": float(np.mean([one.agreement for one in own])),
                "exact": proportion_interval(sum(one.exact for one in own), len(own)).to_json(),
            }


def questions(wanted: Wanted, context) -> list[in_model.Question]:
    """Of the suites that are asked for, on texts that no trace is of."""
    seed, made = wanted.seed + 1000, []
    if "text" in wanted.on:
        suite = make("text", context, items=wanted.questions, length=wanted.length - 128, seed=seed, steps=64)
        for item in suite.items():
            cut = len(item.prompt) - 1
            places = tuple(cut + int(step) for step in np.linspace(0, 62, wanted.steps))
            made.append(in_model.Question("text", item.name, (*item.prompt[:-1], *item.data), places))
    if "needle" in wanted.on:
        for item in make("needle", context, items=wanted.questions, length=wanted.length, seed=seed).items():
            made.append(_forced("needle", item, item.data.answer))
    if "ruler" in wanted.on:
        suite = make("ruler", context, items=1, length=wanted.length, seed=seed, tasks=tuple(wanted.tasks))
        for item in suite.items():
            made.append(_forced("ruler", item, context.encode(" " + ", ".join(item.data))))
    return made


def _forced(kind: str, item, answer: Sequence[int]) -> in_model.Question:
    """The right answer after the prompt, token by token."""
    last = len(item.prompt) - 1
    return in_model.Question(kind, item.name, (*item.prompt, *answer), tuple(range(last, last + len(answer))))
