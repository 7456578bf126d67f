"""The live page of a study: what the ledger holds, as JSON and as one page in the browser. Reads only; writes nothing anywhere."""

from .server import Server
from .state import Watch

__all__ = ["Server", "Watch"]
