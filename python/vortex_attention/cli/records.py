"""The answers of verbs as text: a line a field, a table for a list of records. What others wrote cannot speak to the terminal."""

from __future__ import annotations

import dataclasses


def plain(text: object) -> str:
    """Untrusted text without control characters."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(text))


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
            print(f"{name:<14}{plain(value.message)}")
            return
        print(f"{name}:")
        for item in dataclasses.fields(value):
            if (inner := getattr(value, item.name)) not in (None, "", [], {}):
                print(f"  {item.name:<16}{_short(inner)}")
    elif name == "next":
        print("next          " + "; ".join(plain(one) for one in value))
    elif isinstance(value, str) and "\n" in value.strip():
        print(f"{name}:\n{plain(value.rstrip())}")
    else:
        print(f"{name:<14}{_short(value)}")


def _table(name: str, rows: list) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=name)
    heads = [item.name for item in dataclasses.fields(rows[0]) if item.name not in ("facts", "run", "hash", "at")]
    for head in heads:
        table.add_column(head)
    for row in rows:
        table.add_row(*(escape(_short(getattr(row, head))[:160]) for head in heads))
    Console().print(table)


def _is_estimate(value: object) -> bool:
    return type(value).__name__ == "Estimate"


def _short(value: object) -> str:
    if _is_estimate(value):
        if value.center is None:
            return "?"
        low, high = ("?" if end is None else f"{end:+.3f}" for end in (value.low, value.high))
        return f"{value.center:+.3f} [{low}, {high}] of {value.count}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{plain(key)} {_short(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_short(one) for one in value)
    return "" if value is None else " ".join(plain(value).split())
