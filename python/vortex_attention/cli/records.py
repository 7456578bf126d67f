"""The answers of verbs as text: a line a field, a table for a list of records. What others wrote cannot speak to the terminal."""

from __future__ import annotations

import dataclasses

from ..printable import escaped


def show(record: object) -> None:
    """Prints a record: fields that say nothing are left out."""
    for item in dataclasses.fields(record):
        _field(item.name, getattr(record, item.name))


def _field(name: str, value: object) -> None:
    if value is None or value == "" or value == [] or value == {}:
        return
    if isinstance(value, list) and dataclasses.is_dataclass(value[0]):
        _table(name, value)
    elif dataclasses.is_dataclass(value) and not _is_estimate(value):
        if type(value).__name__ == "Problem":
            print(f"{name:<13} {escaped(value.message, lines=True)}")
            return
        print(f"{name}:")
        for item in dataclasses.fields(value):
            if (inner := getattr(value, item.name)) not in (None, "", [], {}):
                print(f"  {item.name:<17}{_short(inner, item.name)}")
    elif name == "next":
        print("next          " + "; ".join(escaped(one, lines=True) for one in value))
    elif isinstance(value, str) and "\n" in value.strip():
        print(f"{name}:\n{escaped(value.rstrip(), lines=True)}")
    else:
        print(f"{name:<13} {_short(value, name)}")


COLUMNS = {  # of a table, for people; --json has all fields
    "Standing": ("proposal", "name", "author", "gain", "ratio", "p_non_dominated", "p_accurate", "state", "accurate"),
    "Beaten": ("proposal", "kind", "against", "ratio", "advantage", "p", "holds"),
    "Row": ("proposal", "author", "name", "status", "gate", "reason", "hypothesis"),
    "Account": ("agent", "proposals", "by_status", "seconds", "spent", "on_frontier"),
    "Gate": ("gate", "status", "reason", "seconds"),
    "Price": (
        "context",
        "step_speedup",
        "score_bytes",
        "select_bytes",
        "attend_bytes",
        "weight_bytes",
        "full_attention_bytes",
    ),
}


def _table(name: str, rows: list) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=name)
    heads = COLUMNS.get(type(rows[0]).__name__) or [item.name for item in dataclasses.fields(rows[0])]
    for head in heads:
        table.add_column(head.replace("_", " "))
    for row in rows:
        table.add_row(*(escape(_short(getattr(row, head), head)[:160]) for head in heads))
    console = Console()
    (console if console.is_terminal else Console(width=180)).print(table)


def _is_estimate(value: object) -> bool:
    return type(value).__name__ == "Estimate"


def _short(value: object, name: str = "") -> str:
    if _is_estimate(value):
        if value.center is None:
            return "?"
        sign = "+" if name == "gain" else ""
        low, high = ("?" if end is None else f"{end:{sign}.3f}" for end in (value.low, value.high))
        return f"{value.center:{sign}.3f} [{low}, {high}] of {value.count}"
    if name == "seconds" and isinstance(value, dict):  # of an account: in all
        return f"{sum(value.values()):.3g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{escaped(key, lines=True)} {_short(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_short(one) for one in value)
    return "" if value is None else escaped(value)
