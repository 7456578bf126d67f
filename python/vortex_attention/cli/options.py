"""Options that several commands share, and how their text becomes settings. Bad text is the user's error, in words."""

from __future__ import annotations

from vortex_attention.errors import UserError


def overrides_of(settings: list[str], budget: int | None) -> dict[str, str]:
    """["budget=32", "sinks=2"] → {"budget": "32", "sinks": "2"}; names are checked where the flow is loaded."""
    result: dict[str, str] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UserError("--set", "NAME=VALUE, for example budget=32", f"{text!r}", "write the name, an equals sign and the value")
        result[name.strip()] = value.strip()
    if budget is not None:
        result["budget"] = str(budget)
    return result


def numbers_of(text: str, option: str) -> list[int]:
    """"1024,4096" → [1024, 4096]."""
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UserError(option, "positive whole numbers, separated by commas", f"{text!r}", "for example 1024,4096")
    return numbers
