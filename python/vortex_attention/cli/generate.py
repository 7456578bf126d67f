"""`vortex generate`: text from prompts, streamed as it comes; several prompts run together."""

import json
import sys
from typing import Annotated

import typer


def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="What to say to the model; '-' or nothing reads standard input.", metavar="[PROMPT]..."),
    ] = None,
    model: Annotated[str, typer.Option(help="A model's name, or the path of a .gguf file.")] = "smollm2",
    flow: Annotated[
        str | None, typer.Option(help="A ready flow's name or a .py file; full attention without it.")
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Pages the flow attends, in place of its own budget.")] = None,
    max_tokens: Annotated[int, typer.Option(max=2**31 - 1, help="Tokens of an answer at most.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    top_k: Annotated[int, typer.Option(max=2**31 - 1, help="Draw from the k likeliest tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the fewest tokens that reach this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Of the draws.")] = 0,
    chat: Annotated[
        bool, typer.Option("--chat/--raw", help="Put each prompt into the model's chat template, or give it as it is.")
    ] = True,
    system: Annotated[str | None, typer.Option(help="A system message before each prompt.")] = None,
    threads: Annotated[int, typer.Option(min=0, max=4096, help="0 for one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per answer instead of text.")] = False,
) -> None:
    """Write text with a model, through full attention or a flow."""
    from vortex_attention.errors import UserError
    from vortex_attention.engine import Generator, Sampling

    texts = _read(prompts)
    if system is not None and not chat:
        raise UserError("--system", "a chat", "got --raw", "leave one of them out")
    if budget is not None and flow is None:
        raise UserError("--budget", "a flow that it applies to", "got none", "add --flow")
    overrides = {} if budget is None else {"budget": str(budget)}
    generator = Generator(model, flow=flow, overrides=overrides, threads=threads, max_batch=min(len(texts), 16))
    prompts_ids = [generator.encode(text, chat=chat, system=system) for text in texts]
    sampling = Sampling(max_tokens, temperature, top_k, top_p, seed)
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
    return [sys.stdin.buffer.read().decode("utf-8", "replace")]


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= 60 else line[:57] + "..."
