"""`vortex explain`: what a flow becomes, from its IR through every pass to its stages."""

import json
from typing import Annotated

import typer

from vortex_attention.cli import options


def explain(
    flow: Annotated[str, typer.Argument(help="A ready flow's name, a .py file, or file.py:Class.")],
    model: Annotated[
        str,
        typer.Option(
            help="The model to bind it to: a known name or shape, or the path of a .gguf file or of a Hugging Face folder."
        ),
    ] = "smollm2",
    passes: Annotated[
        bool, typer.Option("--passes", help="Print the program after each pass that changed it.")
    ] = False,
    without: Annotated[list[str] | None, typer.Option(help="Leave out a pass; may be given several times.")] = None,
    budget: options.Budget = None,
    settings: options.FlowSettings = None,
    kv_dtype: options.KvDtype = "bf16",
    context: Annotated[int, typer.Option(help="Tokens of a sequence, for the bytes of a step.")] = 4096,
    batch: Annotated[int, typer.Option(help="Sequences of a decode step.")] = 8,
    trust_flow: options.TrustFlow = False,
    as_json: options.Json = False,
) -> None:
    """Show a flow's program, the passes it goes through, and the stages it runs as."""
    from vortex_attention import _core
    from vortex_attention.models.geometry import geometry_of
    from vortex_attention.flows import load_flow

    shape = geometry_of(model, kv_dtype)
    program = load_flow(flow, **options.overrides_of(settings, budget))
    plan = _core.compile_flow(program, **shape.bound, without=without or [], keep_text=passes or as_json)
    bytes_read = _core.explain(plan, **shape.workload, context=context, batch=batch)
    if as_json:
        steps = [
            {"name": p.name, "changed": p.changed, "microseconds": p.microseconds, "text": p.text} for p in plan.passes
        ]
        shown = {"flow": flow, "hash": program.hash, "program": program.text(), "passes": steps, "plan": plan.text()}
        print(json.dumps(shown | {"explained": bytes_read}))
        return
    print(f"# the program as it was traced\n{program.text().rstrip()}\n\n# passes")
    for step in plan.passes:
        print(f"{step.name:14}{step.microseconds:9.1f} us{'' if step.changed else '  (unchanged)'}")
        if passes and step.changed:
            print("".join(f"    {line}\n" for line in step.text.rstrip().splitlines()), end="")
    print(f"\n# the plan on {shape}\n{plan.text().rstrip()}")
    print(f"\n# what its stages read and keep at {context} tokens, batch {batch}\n{bytes_read.rstrip()}")
