"""JSON files of a model's folder, read with bounds and answered in words: an object, each key once, numbers that are
whole where a size is asked for."""

import json
import os

from vortex_attention.errors import MachineError, UserError

_MOST_BYTES = 64 << 20
_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    bool: "true or false",
    dict: "an object",
}


def parse_object(text: bytes, where: str) -> dict:
    """The object that the text is; UserError says what it is instead."""

    def once(pairs: list[tuple[str, object]]) -> dict:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))
            raise UserError(where, "each key once", f"{twice!r} comes twice", "the file is damaged, fetch it again")
        return found

    try:
        value = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:  # also broken UTF-8 and numbers of thousands of digits
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(where, "JSON", reason, "the file is damaged or incomplete, fetch it again") from None
    if not isinstance(value, dict):
        raise UserError(where, "a JSON object", f"got {kind_of(value)}", "the file is damaged, fetch it again")
    return value


def read_object(path: str) -> dict:
    where = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise MachineError(where, "a file that can be read", str(error), "check the path and its permissions") from None
    if len(text) > _MOST_BYTES:
        raise UserError(where, f"at most {_MOST_BYTES} bytes of JSON", "the file is larger", "fetch it again")
    return parse_object(text, where)


def kind_of(value) -> str:
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


class Settings:
    """The settings of an object, by name and kind."""

    def __init__(self, values: dict, where: str, prefix: str = ""):
        self.values, self.where, self.prefix = values, where, prefix

    def get(self, name: str, kind: type, default=None):
        """A setting; null counts as absent. UserError when it is absent without a default, or of another kind."""
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise UserError(
                    self.where, f"the setting {self.prefix}{name}", "the file has none", "use a complete model folder"
                )
            return default
        if kind is float and type(value) is int:
            value = _float(value)
        if type(value) is not kind:
            raise UserError(
                self.where,
                f"the setting {self.prefix}{name} to be {_KINDS[kind]}",
                f"got {kind_of(value)}",
                "use a complete model folder",
            )
        return value

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def only(self, name: str, wanted, default) -> None:
        """Refuses another value than the one that is implemented, which an absent setting means too."""
        value = self.values.get(name)
        value = default if value is None else value
        if value != wanted or type(value) is bool and type(wanted) is not bool:
            raise UserError(
                self.where,
                f"{self.prefix}{name} = {wanted}",
                f"got {value}",
                "this variant is not implemented, use another model",
            )

    def part(self, name: str) -> "Settings":
        return Settings(self.get(name, dict), self.where, f"{self.prefix}{name}.")


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
