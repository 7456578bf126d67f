"""RULER: greedy answers scored as the official scripts do, with KL along full attention's answer."""

from __future__ import annotations

from collections.abc import Sequence

from ...ledger import Outcome
from ..arms import Arms
from ..generate import Answer, Question, answers
from ..made_items import Made
from ..ruler import table
from ..suite import Done, Item, Metric, Suite, nothing_done
from .context import Context


class RulerSuite(Suite):
    name = "ruler"
    options = ("items", "length", "seed", "tasks", "first")
    metrics = (
        Metric("score", "score", digits=1, scale=100.0),
        Metric("kl", "KL to full", better=-1),
        Metric("agreement", "same token", digits=3),
    )
    margin, deviation, worst = 0.01, 0.25, 1.0

    def __init__(
        self,
        context: Context,
        items: int = 8,
        length: int = 4096,
        seed: int = 42,
        tasks: Sequence[str] = (),
        first: int = 0,
    ):
        """items: of each task. length: tokens with the answer's room. first: how many of a task's questions are passed over, those of an earlier run."""
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
            **({"first": first} if first else {}),
        }
        context.need(length + (50 if "fwe" in self.tasks else 0), "RULER's prompt and answer")

    def items(self) -> list[Item]:
        length, seed, made = self.settings["length"], self.settings["seed"], []
        first = self.settings.get("first", 0)
        for name in self.tasks:
            for index, one in list(enumerate(self._made(name)))[first:]:
                made.append(
                    Item(
                        f"{name}-{length}-{seed}-{index}",
                        one.prompt,
                        one.room,
                        group=name,
                        cluster=one.cluster,
                        facts={"tokens": len(one.prompt), "length": length},
                        data=one.outputs,
                    )
                )
        return made

    def _made(self, name: str) -> list[Made]:
        """The questions of a task, from its first one on: those that are kept, else drawn now."""
        count, kept = self.settings.get("first", 0) + self.settings["count"], self.context.made
        what = {key: self.settings[key] for key in ("length", "seed", "generator", "chat")} | {"ruler": name}
        made = kept.find(what) if kept else []
        if len(made) < count:
            task = table.task(
                name,
                length=self.settings["length"],
                seed=self.settings["seed"],
                count=lambda text: len(self.context.encode(text)),
                chat=self.context.chat,
            )
            made = [
                Made(tuple(self.context.encode(sample.text)), tuple(sample.outputs), task.room, sample.cluster)
                for sample in task.samples(count)
            ]
            if kept:
                kept.keep(what, made)
        return made[:count]

    def lanes(self, arms: int, together: int) -> int:
        """An arm that goes astray is in flight twice: fed full attention's answer, and answering by itself."""
        return 2 * max(arms, together)

    def measure_together(
        self,
        arms: Arms,
        items: Sequence[Item],
        bases: Sequence[int],
        names: Sequence[str],
        done: Done = nothing_done,
    ) -> list[dict[str, Outcome]]:
        questions = [Question(base, item.prompt[-1], item.steps) for item, base in zip(items, bases, strict=True)]
        found = answers(arms, names, questions, self.context.stop)
        return [self._outcomes(arms, item, said) for item, said in zip(items, found)]

    def _outcomes(self, arms: Arms, item: Item, said_by: dict[str, Answer]) -> dict[str, Outcome]:
        found = {}
        for name, answer in said_by.items():
            said = self.context.decode(answer.tokens)
            scores = {"score": table.score(item.group, said, item.data), "kl": sum(answer.kl) / len(answer.kl),
                      "agreement": sum(answer.agreement) / len(answer.agreement), "said_tokens": len(answer.tokens),
                      "finished": answer.finished}  # fmt: skip
            found[name] = Outcome(scores, answer.counts.observed(arms.rows))
        return found
