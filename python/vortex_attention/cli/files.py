"""Writes the files that commands are asked for with --output. Refuses a place that cannot be written, with the system's reason."""

from __future__ import annotations

import os

from vortex_attention.errors import MachineError


def write_text(path: str, text: str) -> None:
    """The folder is made; MachineError says why it cannot be written."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise MachineError(
            path, "a file that can be written", error.strerror or str(error), "choose another place with --output"
        ) from None
