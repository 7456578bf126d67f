"""The edits of the built-in agent, by what they change. EDITS lists them all.

An edit only has to make sense, not to be valid: what the language refuses is dropped and another is drawn. To add one, write a
function in the file of its kind and a row in that file's EDITS.
"""

from . import carried, choice, crossing, groups, settings, summaries, values
from .base import Around, Edit, NotHere

EDITS: list[Edit] = [
    edit for kind in (settings, values, summaries, choice, groups, carried, crossing) for edit in kind.EDITS
]

__all__ = ["EDITS", "Around", "Edit", "NotHere"]
