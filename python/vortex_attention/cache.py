"""The folder of what is kept from one run to the next, and names of files in it by their content. Imports nothing heavy."""

import os

from vortex_attention import _core
from vortex_attention.errors import UserError


def folder(kind: str) -> str:
    """`kind` of things: models, data, traces."""
    named = _core.env("VORTEX_CACHE")
    path = os.path.expanduser(named)
    homeless = named.split("/")[0] == "~" and os.environ.get("HOME") == ""
    if homeless or path.startswith("~"):
        came = f"{named}, and HOME is empty" if homeless else f"{named}, and there is no such user"
        raise UserError(
            "VORTEX_CACHE", "a folder to keep what is fetched in", came, "set HOME, or VORTEX_CACHE to a folder"
        )
    return os.path.join(path, kind)


def digest(content: bytes) -> str:
    """SHA-256, in hexadecimal digits."""
    try:
        from _sha2 import sha256  # hashlib would load OpenSSL, which takes longer than all else of a small command
    except ImportError:
        try:
            from _sha256 import sha256  # until CPython 3.11
        except ImportError:
            from hashlib import sha256
    return sha256(content).hexdigest()
