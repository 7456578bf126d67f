"""A screen of selections on traces: no model runs, there are no answers. At positions of a text, on the keys, values and queries of full
attention, how much of the mass that full attention gives the candidates do the pages hold that a flow reads, by layer and KV head,
and how far are the outputs of a layer from full attention's. A screen is a proxy: docs/accuracy.md says what it is worth."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from ...errors import UserError
from ...ledger import Outcome
from ..arms import FULL, Counts
from ..mass import page_mass, token_mass
from ..suite import Item, Metric, Suite
from .context import Context
from .ruler import RulerSuite

VERSION = 2


class ScreenSuite(Suite):
    """Runs on a TraceBed. A flow's state and the sets it keeps for several steps are seen as they are at a first step."""

    name = "screen"
    on_traces = True
    options = ("items", "length", "seed", "positions", "tasks")
    metrics = (
        Metric("recall", "mass recall"),
        Metric("top", "heaviest pages read"),
        Metric("worst", "recall of the worst head"),
        Metric("error", "output error", better=-1),
    )
    margin, deviation, worst = 0.05, 0.05, 1.0

    def __init__(
        self,
        context: Context,
        items: int = 4,
        length: int = 2048,
        seed: int = 1,
        positions: int = 24,
        tasks: Sequence[str] = (),
    ):
        """length: tokens of a text. positions: of the tokens whose queries are asked, spread over its last three quarters. tasks: of
        RULER; the texts are `items` prompts of each instead of prose, and their last tokens are asked."""
        self.context = context
        self.settings = {"length": length, "count": items, "seed": seed, "positions": positions, "screen": VERSION}
        self.ruler = RulerSuite(context, items, length, seed, tasks) if tasks else None
        if self.ruler:
            self.settings["ruler"] = self.ruler.settings
        context.need(length + 1, "a trace")
        if not 1 <= positions <= length // 2:
            raise UserError("screen", f"1 to {length // 2} positions", f"{positions}", "change --positions")

    def items(self) -> list[Item]:
        positions = self.settings["positions"]
        if self.ruler:
            return [
                Item(
                    f"screen-{one.name}-{positions}",
                    (*one.prompt, one.prompt[-1]),  # the text is all but the last
                    1,
                    group=one.group,
                    facts={"tokens": len(one.prompt)},
                    data=tuple(range(len(one.prompt) - positions, len(one.prompt))),
                )
                for one in self.ruler.items()
            ]
        text, settings = self.context.natural(), self.settings
        generator = random.Random(settings["seed"])
        length, wanted, made = settings["length"], settings["length"] + 1, []
        places = tuple(int(at) for at in np.linspace(length // 4, length - 1, settings["positions"]))
        for index in range(settings["count"]):
            start = generator.randrange(max(1, len(text) - 8 * wanted))
            tokens = self.context.encode(text[start : start + 8 * wanted])[:wanted]
            if len(tokens) < wanted:
                raise UserError(
                    "screen",
                    f"a text of {wanted} tokens",
                    f"{len(tokens)} tokens from character {start} on",
                    "lower --length",
                )
            name = f"screen-{length}-{settings['positions']}-{settings['seed']}-{index}"
            made.append(Item(name, tuple(tokens), 1, facts={"tokens": length, "start": start}, data=places))
        return made

    def measure(self, arms, item: Item, names: Sequence[str], seen: dict | None = None) -> dict[str, Outcome]:
        """seen: what is known of items, full attention's mass and outputs by name; added to."""
        if seen is None or item.name not in seen:
            facts = self._full(arms, item)
            if seen is not None:
                seen[item.name] = facts
        else:
            facts = seen[item.name]
        mass, full = facts
        found = {FULL: _all_of(arms, full.shape[1:2])}
        counts = {name: Counts() for name in names}
        if FULL in counts:
            self._count_full(counts[FULL], arms, item)
        for name in names:
            if name == FULL:
                continue
            parts: dict[str, list[np.ndarray]] = {"recall": [], "top": [], "error": []}
            for index, at in enumerate(item.data):
                output, read = self._steps(arms, item, name, index, counts[name])
                chosen = arms.candidates(name, at + 1)
                weights = page_mass(mass[index, :, :, : at + 1], arms.page_sizes[name])[..., chosen]
                recall, top = recalls(weights, read[..., chosen])
                parts["recall"].append(recall)
                parts["top"].append(top)
                off = np.linalg.norm(output - full[index], axis=-1) / np.linalg.norm(full[index], axis=-1)
                parts["error"].append(off)  # [layers]
            found[name] = {part: np.mean(values, axis=0) for part, values in parts.items()}
        return {name: Outcome(_scores(found[name]), counts[name].observed(arms.rows)) for name in names}

    @staticmethod
    def _steps(
        arms, item: Item, name: str, index: int, count: Counts | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Outputs [layers, heads · value_dim] and the pages read of one position."""
        with arms.fork([name]) as branches:
            arms.bench.truncate(branches.sequences[0], item.data[index])
            outputs = arms.outputs(branches.decode([arms.row(item) + index]))[0]
            if count is not None:
                own = branches.counts[name]
                count.pages, count.tokens, count.steps = (
                    count.pages + own.pages,
                    count.tokens + own.tokens,
                    count.steps + 1,
                )
            return outputs, None if name == FULL else arms.pages_read(name, branches.sequences[0])

    def _full(self, arms, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """Mass of tokens [positions, layers, kv_heads, tokens] and outputs [positions, layers, heads · value_dim]."""
        trace = arms.trace(item)
        mass = np.stack([token_mass(trace, layer, arms.geometry.scale) for layer in range(arms.layers)], axis=1)
        return mass, np.stack([self._steps(arms, item, FULL, index)[0] for index in range(len(item.data))])

    @staticmethod
    def _count_full(count: Counts, arms, item: Item) -> None:
        count.tokens = arms.rows * sum(at + 1 for at in item.data)
        count.pages = arms.rows * sum(-(-(at + 1) // arms.bench.page_size) for at in item.data)
        count.steps = len(item.data)


def recalls(weights: np.ndarray, read: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the mass weights [..., candidates] and the pages read, a bool each: the share of the mass that was read, and the share of
    the heaviest pages, as many as were read, that are among them; 1 where there are no candidates, 0 where none was read."""
    if weights.shape[-1] == 0:
        ones = np.ones(weights.shape[:-1])
        return ones, ones
    total = weights.sum(axis=-1)
    recall = np.where(total > 0, (weights * read).sum(axis=-1) / np.maximum(total, 1e-30), 1.0)
    count = read.sum(axis=-1)
    ranks = np.argsort(np.argsort(-weights, axis=-1, kind="stable"), axis=-1)
    top = ((ranks < count[..., None]) & read).sum(axis=-1) / np.maximum(count, 1)
    return recall, top


def _all_of(arms, layers: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Full attention's own figures."""
    shape = (*layers, arms.rows // arms.layers)
    return {"recall": np.ones(shape), "top": np.ones(shape), "error": np.zeros(layers)}


def _scores(found: dict[str, np.ndarray]) -> dict:
    return {
        "recall": float(found["recall"].mean()),
        "top": float(found["top"].mean()),
        "worst": float(found["recall"].min()),
        "error": float(found["error"].mean()),
        "heads": np.round(found["recall"], 4).tolist(),
        "layers": np.round(found["error"], 4).tolist(),
    }
