"""Where in the user's files something stands: frames outside of the language, of NumPy and of the standard library are the user's."""

import os
import sys

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PACKAGE = os.path.dirname(_OWN[:-1]) + os.sep
_MACHINERY = (_OWN + "language" + os.sep, _OWN + "compat" + os.sep)  # the ready flows are like a user's
_STANDARD = os.path.dirname(os.__file__) + os.sep
_SITE, _DIST = f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}"


def _is_users(path: str) -> bool:
    if path.startswith(_OWN):
        return not path.startswith(_MACHINERY)
    return not (path.startswith((_STANDARD, "<frozen ")) or _SITE in path or _DIST in path)


def short(path: str) -> str:
    """A path as messages show it: files of this package without the way to it."""
    return path[len(_PACKAGE) :] if path.startswith(_PACKAGE) else path


def here() -> tuple[str, int]:
    """File and line of the innermost frame that is the user's."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if _is_users(path):
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
        if _is_users(path):
            place = f"{short(path)}:{step.tb_lineno}"
        step = step.tb_next
    return place


def of_stack(stack: str, files: list[str]) -> str | None:
    """The innermost line of one of the files in a stack as faulthandler writes it, the innermost call first."""
    written = {file.encode("ascii", "backslashreplace").decode(): file for file in files}
    for line in stack.splitlines():
        head, found, number = line.strip().removeprefix('File "').partition('", line ')
        number = number.partition(" ")[0]
        if found and head in written and number.isdecimal() and len(number) < 10:
            return f"{short(written[head])}:{number}"
    return None


def text() -> str:
    file, line = here()
    return f"{file}:{line}"
