"""What a run keeps of its flows for a report: the code as it was read, and the price on the run's model and loads."""

from __future__ import annotations

LONGEST = 100_000  # characters of a flow's code


def cards(flows: dict, loaded, loads: list[tuple[int, int]], kv_dtype: str) -> dict[str, dict]:
    """By name: {"source", "prices": [{"batch", "context", bytes of a step by what reads them}]}. loads: (batch, context)."""
    from vortex_attention import _core

    config, attention = loaded.config, loaded.config.attention
    shape = {"head_dim": attention.head_dim, "group": attention.group, "value_dim": attention.value_dim}
    workload = {
        "layers": config.layers,
        "heads": attention.kv_heads * attention.group,
        "kv_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "token_bytes": _core.kv_token_bytes(
            attention.head_dim, attention.value_dim, attention.values_in_keys, kv_dtype
        ),
        "weight_bytes": loaded.model.weight_bytes,
    }
    keys = ("score_bytes", "select_bytes", "attend_bytes", "full_attention_bytes", "weight_bytes", "step_speedup", "summary_bytes_per_page")  # fmt: skip
    found = {}
    for name, flow in flows.items():
        plan = _core.compile_flow(flow.program, **shape)
        prices = []
        for batch, context in loads:
            price = _core.price(plan, **workload, batch=batch, context=context)
            prices.append({"batch": batch, "context": context, **{key: getattr(price, key) for key in keys}})
        found[name] = {"source": flow.source[:LONGEST], "prices": prices}
    return found
