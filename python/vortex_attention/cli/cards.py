"""What a run keeps of its flows for a report: the code as it was read, and the price on the run's model and loads."""

from __future__ import annotations

LONGEST = 100_000  # characters of a flow's code


def cards(flows: dict, shape, loads: list[tuple[int, int]]) -> dict[str, dict]:
    """By name: {"source", "prices": [{"batch", "context", bytes of a step by what reads them}]}. shape: a Geometry; loads: (batch, context)."""
    from vortex_attention import _core

    keys = ("score_bytes", "select_bytes", "attend_bytes", "full_attention_bytes", "weight_bytes", "step_speedup", "summary_bytes_per_page")  # fmt: skip
    found = {}
    for name, flow in flows.items():
        plan = _core.compile_flow(flow.program, **shape.bound)
        prices = []
        for batch, context in loads:
            price = _core.price(plan, **shape.workload, batch=batch, context=context)
            prices.append({"batch": batch, "context": context, **{key: getattr(price, key) for key in keys}})
        found[name] = {"source": flow.source[:LONGEST], "prices": prices}
    return found
