"""From what somebody hands in to a draft of a proposal: the source is traced in the sandbox, so nothing of it runs here. What does not
become a flow is a draft all the same, with the reason, so that it gets its place in the study.
"""

from __future__ import annotations

import os
import tempfile

from ..errors import InternalError, UserError
from ..language.loader import load_file
from .study import Draft

FILE = "proposal.py"  # what errors call the source


def draft(
    source: str,
    hypothesis: str,
    *,
    parents: tuple[int, ...] = (),
    settings: dict | None = None,
    name: str | None = None,
) -> Draft:
    """source: Python, or IR as text or JSON. settings: of the flow's configuration, in place of its own. name: of the class, where the
    source has several. MachineError where there is no sandbox."""
    handed_in = {key: value for key, value in (("settings", settings or {}), ("class", name)) if value}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, FILE)
        try:
            with open(path, "w", encoding="utf-8", errors="replace") as file:
                file.write(source)
            program = load_file(path, name)
            if settings:
                program = program.with_settings({key: str(value) for key, value in settings.items()})
            return Draft(program, source, hypothesis, tuple(parents), handed_in=handed_in)
        except (UserError, InternalError) as error:
            return Draft(
                None, source, hypothesis, tuple(parents), refused=str(error).replace(path, FILE), handed_in=handed_in
            )
