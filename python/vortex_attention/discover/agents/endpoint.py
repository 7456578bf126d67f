"""One question to an OpenAI-compatible endpoint (POST BASE/chat/completions), and what it cost.

Whatever it answers is untrusted: a reply has a largest size and a last moment, redirects are not followed, the key goes to this address
alone and into no message. Retries what may pass: no connection, 429, 5xx.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import MachineError, UserError
from ...printable import blanked

REPLY_BYTES = 4 << 20
CHARACTERS_A_TOKEN = 4  # where the endpoint does not count


@dataclass(frozen=True)
class Reply:
    text: str
    tokens_in: int
    tokens_out: int
    counted: bool  # by the endpoint; else estimated from the length of the texts


class Endpoint:
    """seconds: of one try, from its first to its last byte. tries: of one question."""

    def __init__(
        self,
        base_url: str,
        model: str,
        key_env: str = "",
        *,
        seconds: float = 300.0,
        tries: int = 4,
        wait: Callable[[float], None] = time.sleep,
    ):
        try:
            import httpx2
        except ImportError:
            raise UserError(
                "--agent",
                "httpx2 to reach an endpoint",
                "it is not installed",
                "pip install 'vortex-attention[agents]'",
            ) from None
        self.client = httpx2
        if not base_url.startswith(("http://", "https://")):
            raise UserError(
                "--base-url", "the address of an OpenAI-compatible endpoint", repr(base_url), "say https://HOST/v1"
            )
        if not model:
            raise UserError("--model-name", "the name of a model of the endpoint", "none", "name one")
        self.url, self.model = base_url.rstrip("/") + "/chat/completions", model
        self.key = os.environ.get(key_env, "") if key_env else ""
        if key_env and not self.key:
            raise UserError(
                "--api-key-env", "a variable of the environment that holds a key", f"{key_env} is not set", "set it"
            )
        self.seconds, self.tries, self.wait = seconds, tries, wait

    def ask(self, messages: list[dict], *, seed: int, largest: int = 8192) -> Reply:
        """MachineError when no usable answer came; UserError when the endpoint refuses the question. largest: tokens of a reply."""
        question = {"model": self.model, "messages": messages, "seed": seed, "max_tokens": largest}
        said = ""
        for attempt in range(self.tries):
            if attempt:
                self.wait(2.0**attempt)
            try:
                status, body = self._post(question)
            except self.client.HTTPError as error:
                said = f"{type(error).__name__}: {self._clean(str(error))}"
                continue
            if status == 200:
                return self._reply(body, messages)
            said = f"status {status}: {self._clean(body.decode(errors='replace'))[:200]}"
            if status != 429 and status < 500:
                raise UserError(
                    "endpoint", f"an answer of {self.url}", said, "check --base-url, --model-name and the key"
                )
        raise MachineError(
            "endpoint",
            f"an answer of {self.url}",
            f"{said}, {self.tries} times",
            "the study goes on from here when it is started again",
        )

    def _post(self, question: dict) -> tuple[int, bytes]:
        until = time.monotonic() + self.seconds
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = self.client.Timeout(self.seconds, connect=min(10.0, self.seconds))
        with (
            self.client.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", self.url, json=question, headers=headers) as response,
        ):
            body = bytearray()
            for part in response.iter_bytes():
                body += part
                if len(body) > REPLY_BYTES:
                    raise self.client.ReadError(f"more than {REPLY_BYTES >> 20} MiB")
                if time.monotonic() > until:
                    raise self.client.ReadTimeout(f"no whole answer in {self.seconds:g} s")
            return response.status_code, bytes(body)

    def _reply(self, body: bytes, messages: list[dict]) -> Reply:
        """What does not look like an answer is an empty one: it costs a repair, not the study."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = {}
        text = ""
        try:
            content = answer["choices"][0]["message"]["content"]
            text = content if isinstance(content, str) else ""
            text = text.replace(self.key, "[key]") if self.key else text  # it goes into the ledger, which others read
        except (KeyError, IndexError, TypeError):
            pass
        usage = answer.get("usage") if isinstance(answer, dict) else None
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
        if len(counts) == 2 and all(type(count) is int and 0 <= count < 1 << 40 for count in counts):
            return Reply(text, counts[0], counts[1], True)
        asked = sum(len(message["content"]) for message in messages)
        return Reply(text, math.ceil(asked / CHARACTERS_A_TOKEN), math.ceil(len(text) / CHARACTERS_A_TOKEN), False)

    def _clean(self, text: str) -> str:
        """What a stranger says, on one line and without our key."""
        shown = text.replace(self.key, "[key]") if self.key else text
        return blanked(shown)[:400]
