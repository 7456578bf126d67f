"""Where in the user's files something stands: frames outside of this package are the user's."""

import os
import sys

_LANGUAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_COMPAT = os.path.join(os.path.dirname(_LANGUAGE[:-1]), "compat") + os.sep
_PACKAGE = os.path.dirname(os.path.dirname(_LANGUAGE[:-1])) + os.sep
_OURS = (_LANGUAGE, _COMPAT, "<frozen importlib")


def short(path: str) -> str:
    """A path as messages show it: files of this package without the way to it."""
    return path[len(_PACKAGE) :] if path.startswith(_PACKAGE) else path


def here() -> tuple[str, int]:
    """File and line of the innermost frame that is not of the language itself."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(_OURS):
            return short(path), frame.f_lineno
        frame = frame.f_back
    return "", 0


def of_function(function) -> str:
    """ "quest.py:11", the line where a method begins."""
    return f"{short(function.__code__.co_filename)}:{function.__code__.co_firstlineno}"


def of_traceback(error: BaseException) -> str | None:
    """The innermost line of the user's that an exception passed through."""
    place, step = None, error.__traceback__
    while step is not None:
        path = step.tb_frame.f_code.co_filename
        if not path.startswith(_OURS):
            place = f"{short(path)}:{step.tb_lineno}"
        step = step.tb_next
    return place


def text() -> str:
    file, line = here()
    return f"{file}:{line}"
