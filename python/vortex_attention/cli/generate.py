"""`vortex generate`: text from prompts, streamed as it comes; several prompts run together."""

import json
import sys
from typing import Annotated

import typer

from vortex_attention.cli import options


def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="What to say to the model; '-' or nothing reads standard input.", metavar="PROMPT"),
    ] = None,
    model: options.Model = "smollm2",
    load_format: options.LoadFormat = "auto",
    flow: Annotated[
        str | None, typer.Option(help="A ready flow's name or a .py file; full attention without it.")
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Pages the flow attends, in place of its own budget.")] = None,
    settings: options.FlowSettings = None,
    trust_flow: options.TrustFlow = False,
    max_tokens: Annotated[int, typer.Option(max=2**31 - 1, help="Tokens of an answer at most.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    top_k: Annotated[int, typer.Option(max=2**31 - 1, help="Draw from the k likeliest tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the fewest tokens that reach this probability.")] = 1.0,
    typical_p: Annotated[
        float, typer.Option(help="Draw from the most typical tokens that reach this probability.")
    ] = 1.0,
    min_p: Annotated[float, typer.Option(help="Draw from tokens at least this share of the likeliest.")] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Divides the logits of tokens of the prompt and the answer; 1 for none.")
    ] = 1.0,
    presence_penalty: Annotated[float, typer.Option(help="Taken from the logits of tokens of the answer.")] = 0.0,
    frequency_penalty: Annotated[float, typer.Option(help="The same, for every time a token was said.")] = 0.0,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(help="TOKEN=NUMBER is added to the logit of a token id, -inf bans it; repeatable."),
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="A text that ends the answer; may be given several times.")
    ] = None,
    stop_token: Annotated[
        list[int] | None,
        typer.Option(max=2**31 - 1, help="A token id that ends the answer; may be given several times."),
    ] = None,
    top_logprobs: Annotated[
        int, typer.Option(max=2**31 - 1, help="Report so many of the likeliest tokens at each step (with --json).")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Of the draws.")] = 0,
    chat: Annotated[
        bool, typer.Option("--chat/--raw", help="Put each prompt into the model's chat template, or give it as it is.")
    ] = True,
    system: Annotated[str | None, typer.Option(help="A system message before each prompt.")] = None,
    kv_dtype: options.KvDtype = "bf16",
    device: options.Device = "cpu",
    deterministic: options.Deterministic = False,
    threads: Annotated[int, typer.Option(min=0, max=4096, help="0 for one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per answer instead of text.")] = False,
) -> None:
    """Write text with a model, through full attention or a flow."""
    from vortex_attention.errors import UserError
    from vortex_attention.engine import Generator, Sampling
    from vortex_attention.models import memory_of, open_source

    texts = _read(prompts)
    if system is not None and not chat:
        raise UserError("--system", "a chat", "got --raw", "leave one of them out")
    for option, given in (("--budget", budget is not None), ("--set", settings)):
        if given and flow is None:
            raise UserError(option, "a flow that it applies to", "got none", "add --flow")
    if top_logprobs and not as_json:
        raise UserError("--top-logprobs", "--json, which shows them", "got none", "add --json")
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        typical_p=typical_p,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=_biases(logit_bias or []),
        stop=stop or [],
        stop_tokens=stop_token or [],
        top_logprobs=top_logprobs,
        seed=seed,
    )
    overrides = options.overrides_of(settings, budget)
    source = open_source(model, load_format)
    if device == "cpu":
        memory = memory_of(source, batch=min(len(texts), 16))
        memory.require()
        if sys.stderr.isatty():
            print(f"loading: {memory}, beside KV", file=sys.stderr)
    generator = Generator(
        source,
        flow=flow,
        overrides=overrides,
        threads=threads,
        device=device,
        kv_dtype=kv_dtype,
        deterministic=deterministic,
        max_batch=16 if deterministic else min(len(texts), 16),
    )
    prompts_ids = [generator.encode(text, chat=chat, system=system) for text in texts]
    live = len(texts) == 1 and not as_json
    for piece in generator.stream(prompts_ids, sampling):
        if live and piece.text:
            print(piece.text, end="", flush=True)
        if piece.answer is None:
            continue
        if live:
            print()
        elif as_json:
            print(json.dumps({"prompt": texts[piece.index], **piece.answer.as_json()}), flush=True)
        else:
            print(f"--- {piece.index + 1}: {_first_line(texts[piece.index])}\n{piece.answer.text}", flush=True)
    if not as_json and sys.stderr.isatty():
        print(generator.summary(), file=sys.stderr)


def _read(prompts: list[str] | None) -> list[str]:
    from vortex_attention.errors import UserError

    if prompts and prompts != ["-"]:
        return prompts
    if sys.stdin.isatty():
        raise UserError("vortex generate", "a prompt", "got none", "give one: vortex generate 'Why is the sky blue?'")
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    if not text.strip():
        raise UserError(
            "vortex generate", "a prompt on standard input", "it was empty", "give a text there, or one as an argument"
        )
    return [text]


def _biases(texts: list[str]) -> dict[int, float]:
    """["42=-inf"] -> {42: -inf}."""
    from vortex_attention.errors import UserError

    biases: dict[int, float] = {}
    for text in texts:
        token, _, number = text.partition("=")
        try:
            biases[int(token)] = float(number)
        except ValueError:
            raise UserError("--logit-bias", "TOKEN=NUMBER", f"got {text!r}", "for example 42=-inf") from None
    return biases


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= 60 else line[:57] + "..."
