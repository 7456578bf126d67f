"""RULER: greedy answers scored as the official scripts do, with KL along full attention's answer."""

from __future__ import annotations

from collections.abc import Sequence

from ...ledger import Outcome
from ..arms import Arms
from ..generate import answers
from ..ruler import table
from ..suite import Item, Metric, Suite
from .context import Context


class RulerSuite(Suite):
    name = "ruler"
    options = ("items", "length", "seed", "tasks")
    metrics = (
        Metric("score", "score", digits=1, scale=100.0),
        Metric("kl", "KL to full", better=-1),
        Metric("agreement", "same token", digits=3),
    )
    margin, deviation, worst = 0.01, 0.25, 1.0

    def __init__(self, context: Context, items: int = 8, length: int = 4096, seed: int = 42, tasks: Sequence[str] = ()):
        """items: of each task. length: tokens with the answer's room."""
        self.context = context
        self.tasks = list(tasks) or list(table.TASKS)
        table.check_names(self.tasks)
        self.settings = {
            "length": length,
            "count": items,
            "seed": seed,
            "generator": table.VERSION,
            "tasks": self.tasks,
            "chat": context.chat is not None,
        }
        context.need(length + (50 if "fwe" in self.tasks else 0), "RULER's prompt and answer")

    def items(self) -> list[Item]:
        made = []
        length, seed = self.settings["length"], self.settings["seed"]
        for name in self.tasks:
            task = table.task(
                name,
                length=length,
                seed=seed,
                count=lambda text: len(self.context.encode(text)),
                chat=self.context.chat,
            )
            for index, sample in enumerate(task.samples(self.settings["count"])):
                prompt = tuple(self.context.encode(sample.text))
                made.append(
                    Item(
                        f"{name}-{length}-{seed}-{index}",
                        prompt,
                        task.room,
                        group=name,
                        cluster=sample.cluster,
                        facts={"tokens": len(prompt), "length": length},
                        data=sample.outputs,
                    )
                )
        return made

    def measure(self, arms: Arms, item: Item, names: Sequence[str]) -> dict[str, Outcome]:
        found = {}
        for name, answer in answers(arms, names, item.prompt[-1], item.steps, self.context.stop).items():
            said = self.context.decode(answer.tokens)
            scores = {"score": table.score(item.group, said, item.data), "kl": sum(answer.kl) / len(answer.kl),
                      "agreement": sum(answer.agreement) / len(answer.agreement), "said_tokens": len(answer.tokens),
                      "finished": answer.finished}  # fmt: skip
            found[name] = Outcome(scores, answer.counts.observed(arms.rows))
        return found
