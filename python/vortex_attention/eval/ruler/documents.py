"""The two question tasks: one question about documents that lie among others (SQuAD, HotpotQA)."""

from __future__ import annotations

from . import sources
from .task import Task


class Documents(Task):
    def __init__(self, name, prompt, room, length, seed, count, *, dataset: str):
        super().__init__(name, prompt, room, length, seed, count)
        self.questions, self.documents = sources.questions(dataset)
        self.limit = len(self.documents)

    def cluster(self, index: int) -> str:
        return f"{self.name} {self.questions[index % len(self.questions)]['context'][0]}"

    def make(self, size: int, index: int) -> tuple[str, list[str]]:
        question = self.questions[index % len(self.questions)]
        own, near = question["context"], question["more_context"]
        if size >= len(self.documents):
            chosen = list(range(len(self.documents)))
        elif size - len(own) > len(near):
            taken = {*own, *near}
            others = [number for number in range(len(self.documents)) if number not in taken]
            chosen = own + near + self.random.sample(others, max(0, size - len(own) - len(near)))
        else:
            chosen = own + self.random.sample(near, size - len(own))
        texts = self.shuffled([self.documents[number] for number in chosen])
        form = sources.document_prompt()
        context = "\n\n".join(form.format(i=place, document=text) for place, text in enumerate(texts, 1))
        return self.prompt(context=context, query=question["query"]), question["outputs"]
