"""Vortex: sparse attention as a language, a compiler and a serving engine. Use it as `import vortex_attention as vx`."""

from vortex_attention import starting  # noqa: F401  first: Ctrl-C while the others are imported
from vortex_attention import language
from vortex_attention.errors import InternalError, MachineError, UserError, VortexError
from vortex_attention.flows import load_flow
from vortex_attention.language import *  # noqa: F403  vFlow, Value, trace, and every op as a function

__version__ = "0.1.0"

__all__ = ["InternalError", "MachineError", "UserError", "VortexError", "__version__", "load_flow", *language.__all__]
