"""Ctrl-C while the command `vortex` is still being imported ends the process at once and without a traceback; `begun` hands
Ctrl-C to Python again. Does nothing where another program imports the package, or has its own way with the signal."""

import os
import signal
import sys


def _is_the_command() -> bool:
    words = sys.orig_argv
    module = words[words.index("-m") + 1 :][:1] if "-m" in words else []
    return module == ["vortex_attention"] or _is_our_script(sys.argv[0] if sys.argv else "")


def _is_our_script(path: str) -> bool:
    """Somebody else's program may be called `vortex` too; the one that an installer writes names our entry point."""
    if os.path.basename(path) != "vortex":
        return False
    try:
        with open(path, "rb") as script:
            return b"vortex_attention.__main__" in script.read(4096)
    except OSError:
        return False


def _watched(handler) -> bool:
    return signal.getsignal(signal.SIGINT) is handler


_ours = False
if _is_the_command() and _watched(signal.default_int_handler):
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _ours = True
    except ValueError:  # not the main thread
        pass


def begun() -> None:
    """The command takes Ctrl-C itself from here on."""
    global _ours
    if _ours and _watched(signal.SIG_DFL):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _ours = False
