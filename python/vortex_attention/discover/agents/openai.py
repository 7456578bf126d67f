"""An agent that asks a language model behind an OpenAI-compatible endpoint.

A round is one question, and one more for what was refused: answers are traced in the sandbox, and their errors go back once. What is then still no flow
is a proposal all the same, with its reason, so the ledger shows every failure. Tokens and dollars are written down as they are spent.
"""

from __future__ import annotations

from ...errors import UserError
from ...printable import blanked
from ..frontier import Point
from ..intake import draft
from ..queue import Queue
from ..study import Draft, Study
from . import answers, prompt
from .endpoint import Endpoint


class LanguageModel:
    """dollars: of a million tokens asked and a million answered. most_tokens: that a study may spend on this agent, 0: any number."""

    def __init__(
        self,
        *,
        seed: int,
        base_url: str,
        model_name: str,
        api_key_env: str = "",
        seconds: float = 300.0,
        dollars: tuple[float, float] = (0.0, 0.0),
        most_tokens: int = 0,
        **endpoint,
    ):
        self.endpoint = Endpoint(base_url, model_name, api_key_env, seconds=seconds, **endpoint)
        self.author, self.seed, self.dollars, self.most_tokens = f"openai:{model_name}", seed, dollars, most_tokens

    def drafts(self, study: Study, points: list[Point], laboratory, round: int, variants: int) -> list[Draft]:
        ids = {proposal.id for proposal in study.proposals()}
        talk = [
            {"role": "system", "content": prompt.system()},
            {"role": "user", "content": prompt.user(study, points, laboratory, variants)},
        ]
        text = self._ask(study, talk, round)
        made = [self._draft(answer, ids) for answer in answers.read(text, variants)]
        refused = [number for number, one in enumerate(made) if one.program is None]
        if refused or not made:
            talk += [
                {"role": "assistant", "content": text or "(nothing)"},
                {
                    "role": "user",
                    "content": prompt.repair([(number + 1, made[number].refused) for number in refused], variants),
                },
            ]
            again = answers.read(repaired := self._ask(study, talk, round), len(refused) or variants)
            if not made:
                made = [self._draft(answer, ids) for answer in again]
                text = repaired or text
            for number, answer in zip(refused, again):
                made[number] = self._draft(answer, ids, instead=made[number])
        if not made:
            why = str(
                UserError("openai", "flows in blocks of Python", "an answer without any, twice", "try another model")
            )
            made = [Draft(None, blanked(text)[: answers.SOURCE_CHARACTERS], "none was given", refused=why)]
        return made

    def _draft(self, answer: answers.Answer, ids: set[int], instead: Draft | None = None) -> Draft:
        """instead: what it repairs, whose hypothesis and parents stay when none are said again."""
        hypothesis, parents = answer.hypothesis, tuple(id for id in answer.parents if id in ids)
        if instead is not None:
            hypothesis = instead.hypothesis if hypothesis == "none was given" else hypothesis
            parents = parents or instead.parents
        return draft(answer.source, hypothesis, parents=parents)

    def _ask(self, study: Study, talk: list[dict], round: int) -> str:
        queue = Queue(study)
        spent = next((account.spent for account in queue.accounts() if account.agent == self.author), {})
        used = int(spent.get("tokens_in", 0) + spent.get("tokens_out", 0))
        if self.most_tokens and used >= self.most_tokens:
            raise UserError(
                "openai",
                f"at most {self.most_tokens} tokens for study {study.name}",
                f"{used} are spent",
                "raise --most-tokens to go on",
            )
        reply = self.endpoint.ask(talk, seed=self.seed * 1_000_003 + round)
        queue.spend(self.author, "tokens_in", reply.tokens_in)
        queue.spend(self.author, "tokens_out", reply.tokens_out)
        cost = (reply.tokens_in * self.dollars[0] + reply.tokens_out * self.dollars[1]) / 1e6
        if cost:
            queue.spend(self.author, "dollars", cost)
        return reply.text
