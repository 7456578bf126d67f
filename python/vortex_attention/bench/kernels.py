"""The kernels of a decode step on a device: what each takes alone, the bytes it must read, its share of the speed of light; beside it the step
as it runs, in one graph. Alone a kernel starts when the one before it has ended, so in the graph, where they overlap, a step may take less
than their sum. Knows the bytes of linears, scoring and attention; of the others it says none."""

from __future__ import annotations

LINEARS = {
    "linear_plain": ["q, k, v"],
    "linear_residual": ["output", "down"],  # in the order of their first launch
    "linear_swiglu": ["gate, up"],
    "linear_likeliest": ["output head"],
}


def profile(workbench, model, flows: dict[str, int], *, batch: int, context: int, bandwidth: float) -> list[dict]:
    """A JSON-ready row for each arm, full attention first. flows: name → flow id. bandwidth: bytes a second that the device reads at best."""
    base = [workbench.fill(context, seed) for seed in range(1, batch + 1)]
    try:
        return [_arm(workbench, model, base, name, flow, bandwidth) for name, flow in {"full": -1, **flows}.items()]
    finally:
        for sequence in base:
            workbench.release(sequence)


def _arm(workbench, model, base: list[int], name: str, flow: int, bandwidth: float) -> dict:
    sequences = [workbench.fork(sequence, flow) for sequence in base]
    try:
        workbench.decode(sequences, [0] * len(sequences))
        workbench.reset_statistics()
        workbench.decode(sequences, [0] * len(sequences))
        counted = workbench.statistics
        found = workbench.profile(sequences, [0] * len(sequences))
    finally:
        for sequence in sequences:
            workbench.release(sequence)
    rows = _rows(found["kernels"], _weights(model.config), counted.kv_bytes, counted.summary_bytes)
    for row in rows:
        seconds = row["milliseconds"] / 1e3
        row["share_of_light"] = row["bytes"] / bandwidth / seconds if row["bytes"] and seconds > 0 else None
    alone = sum(row["milliseconds"] for row in rows)
    return {
        "name": name,
        "step_milliseconds": found["step_milliseconds"],
        "kernels_milliseconds": alone,
        "between_milliseconds": found["step_milliseconds"] - alone,  # below 0: kernels overlap by more than lies between them
        "launches": found["launches"],
        "read_gigabytes_per_second": bandwidth / 1e9,
        "kernels": rows,
    }  # fmt: skip


def _weights(config) -> dict[str, int]:
    """Bytes of each linear's weights over all layers, in bf16."""
    attention = config.attention
    q, kv = attention.kv_heads * attention.group * attention.head_dim, attention.kv_heads * attention.head_dim
    numbers = {
        "q, k, v": config.width * (q + 2 * kv) * config.layers,
        "output": q * config.width * config.layers,
        "gate, up": 2 * config.width * config.ffn_width * config.layers,
        "down": config.ffn_width * config.width * config.layers,
        "output head": config.vocabulary * config.width,
    }
    return {name: 2 * count for name, count in numbers.items()}


def _rows(kernels: list[dict], weights: dict[str, int], kv_bytes: int, summary_bytes: int) -> list[dict]:
    """Named rows with their bytes. Summaries are read by the first kernel of the flow that scores pages."""
    rows, seen, scored = [], {module: 0 for module in LINEARS}, False
    # Of lists long and short there are two kernels; where both run, who read how much is not known.
    attends = {
        one["kernel"] for one in kernels if one["kernel"].startswith("attend") and one["kernel"] != "attend_merge"
    }
    for kernel in kernels:
        name, read = kernel["kernel"], None
        linear = LINEARS.get(kernel["module"])
        if linear and seen[kernel["module"]] < len(linear):
            name = linear[seen[kernel["module"]]]
            seen[kernel["module"]] += 1
            read = weights[name]
        elif name in attends and len(attends) == 1:
            read = kv_bytes
        elif summary_bytes and not scored and (name.startswith(("score", "stage"))):
            read, scored = summary_bytes, True
        rows.append({"name": name, "module": kernel["module"], "launches": kernel["launches"],
                     "milliseconds": kernel["milliseconds"], "bytes": read})  # fmt: skip
    return rows
