"""Chat messages to tokens with the model's own template, rendered in a sandbox: a template is code that came with a
file."""

import json
import time
from collections.abc import Sequence

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vortex_attention.errors import UserError
from vortex_attention.models.tokenizer import Tokenizer

_ROLES = ("system", "user", "assistant", "tool")


class _Generation(jinja2.ext.Extension):
    """{% generation %}…{% endgeneration %} marks what the model says, for training; the text is what stands in it."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def _json(value, indent: int | None = None, **options) -> str:
    """The filter tojson as templates expect it: letters as they are, nothing escaped for HTML."""
    options = {name: options[name] for name in ("ensure_ascii", "separators", "sort_keys") if name in options}
    return json.dumps(value, indent=indent, **({"ensure_ascii": False} | options))


class ChatTemplate:
    """The template of one model; refuses messages that are not {"role": ..., "content": text}."""

    def __init__(self, source: str, tokenizer: Tokenizer, where: str = "chat template"):
        self._tokenizer = tokenizer
        self._where = where
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.globals["raise_exception"] = self._refuse
        environment.globals["strftime_now"] = lambda form: time.strftime(form)
        environment.filters["tojson"] = _json
        texts = {token: text for text, token in tokenizer.control.items()}
        self._variables = {"bos_token": texts.get(tokenizer.bos, ""), "eos_token": texts.get(tokenizer.eos, "")}
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise UserError(
                where, "a Jinja chat template", str(error), "use --raw to give prompts without it"
            ) from None

    def _refuse(self, message: str):
        raise UserError(
            self._where,
            "messages that the model's chat template accepts",
            str(message),
            "change the messages, or use --raw",
        )

    def render(self, messages: Sequence[dict[str, str]], generation_prompt: bool = True) -> str:
        """The text of the conversation, control tokens written out."""
        for message in messages:
            role, content = message.get("role"), message.get("content")
            if role not in _ROLES or not isinstance(content, str):
                raise UserError(
                    "messages",
                    f"a role of {', '.join(_ROLES)} and a text as content",
                    f"got role {role!r} and content of type {type(content).__name__}",
                    "change the message",
                )
        try:
            return self._template.render(
                messages=list(messages), add_generation_prompt=generation_prompt, **self._variables
            )
        except UserError:
            raise
        except Exception as error:  # a template is a program: it can fail in any way
            raise UserError(
                self._where,
                "messages that the model's chat template accepts",
                str(error),
                "change the messages, or use --raw",
            ) from None

    def encode(self, messages: Sequence[dict[str, str]], generation_prompt: bool = True) -> list[int]:
        """Tokens of the conversation. Only the template's own control tokens count as such: the text of one inside a
        message stays text."""
        everything = "".join(str(message.get("content")) for message in messages)
        mark = next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in everything)
        guarded = [
            {**message, "content": self._tokenizer.guard(message["content"], mark)}
            if isinstance(message.get("content"), str)
            else message
            for message in messages
        ]
        text = self.render(guarded, generation_prompt)
        return self._tokenizer.encode(text, control=True, ignore=mark)
