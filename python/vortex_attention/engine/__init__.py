"""The engine from Python: `Generator` answers prompts, many at once, each streamed."""

from vortex_attention.engine.generation import Answer, Generator, Piece
from vortex_attention.engine.sampling import Sampling

__all__ = ["Answer", "Generator", "Piece", "Sampling"]
