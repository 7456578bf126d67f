"""`vortex fit`: the weights of the ready flow `learned_indexer`, for a model."""

from __future__ import annotations

from typing import Annotated

import typer

from vortex_attention.cli import options


def fit(
    model: options.Model = "smollm2",
    rank: Annotated[int, typer.Option(min=1, max=1024, help="Learned channels; the ready flow has 16.")] = 16,
    pieces: Annotated[int, typer.Option(min=1, max=1000, help="Pieces of text to read.")] = 8,
    length: Annotated[int, typer.Option(min=64, max=32768, help="Tokens of a piece.")] = 2048,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The safetensors file.")
    ] = "learned_indexer.safetensors",
    threads: options.Threads = 0,
) -> None:
    """Fit the matrices of learned_indexer to a model's queries and keys, without training."""

    from vortex_attention import _core
    from vortex_attention.errors import MachineError
    from vortex_attention.eval.indexer import fit as fitted
    from vortex_attention.formats.safetensors_file import write
    from vortex_attention.models import load_model, memory_of, open_source
    from vortex_attention.models.data import natural_text

    threads = _core.thread_count(threads)
    source = open_source(model)
    memory_of(source, batch=1).require()
    loaded = load_model(source, threads=threads)
    text = natural_text()
    tokens = loaded.tokenizer.encode(text[-8 * pieces * length :])
    read = [list(tokens[at : at + length]) for at in range(0, len(tokens) - length + 1, length)][-pieces:]
    arrays, kept = fitted(loaded, read, rank=rank, threads=threads, say=print)
    try:
        write(output, arrays)
    except OSError as error:
        raise MachineError(
            output, "a file that can be written", error.strerror or str(error), "choose another place with --output"
        ) from None
    print(
        f"{output}: {rank} channels of {loaded.config.attention.head_dim} hold {100 * kept:.0f} % of the logits' square"
    )
