"""A model of which only the config is there: random weights of a sensible size, the same for the same seed. For
measuring speed; what it writes means nothing.

The shapes of some known models come with the package (shapes/NAME.json): facts of their configs, no weights.
"""

import functools
import hashlib
import json
import os
import statistics
import zlib

import numpy as np

from vortex_attention import _core
from vortex_attention.models.folder_tokenizer import FolderTokenizer, template_of_folder
from vortex_attention.models.hf_config import config_of
from vortex_attention.formats.json_file import read_object
from vortex_attention.models.source import Source
from vortex_attention.models.stand_in import StandInTokenizer
from vortex_attention.models.tokenizer import Tokenizer
from vortex_attention.models.weights import Weight

_SHAPES = os.path.join(os.path.dirname(__file__), "shapes")


def known_shapes() -> list[str]:
    return sorted(name.removesuffix(".json") for name in os.listdir(_SHAPES) if name.endswith(".json"))


class DummySource(Source):
    """name: of a known shape, or "" for the config.json in `folder`."""

    def __init__(self, folder: str = "", name: str = "", seed: int = 0):
        self.path = os.path.join(_SHAPES, f"{name}.json") if not folder else os.path.join(folder, "config.json")
        self.name = name or os.path.basename(os.path.abspath(folder))
        self.where = f"{self.name}/config.json"
        self.seed = seed
        self._values = read_object(self.path)
        self.config = config_of(self._values, self.where)

    def weights(self) -> dict[str, Weight]:
        weights = {}
        for name, rows, columns, use in _core.required_weights(self.config):
            if use == "vector":
                make = functools.partial(_vector, name, columns, self.seed)
                weights[name] = Weight("f32", rows, columns, make, mapped=False)
            else:
                make = functools.partial(_matrix, name, rows, columns, self.seed)
                weights[name] = Weight("bf16", rows, columns, make, mapped=False)
        return weights

    def tokenizer(self) -> Tokenizer:
        """The folder's where it has one, so that prompts have the length that they would have."""
        if self._has_tokenizer():
            return FolderTokenizer(os.path.dirname(self.path))
        return StandInTokenizer(self.config.vocabulary)

    def chat_template(self) -> str | None:
        return template_of_folder(os.path.dirname(self.path)) if self._has_tokenizer() else None

    def _has_tokenizer(self) -> bool:
        return os.path.isfile(os.path.join(os.path.dirname(self.path), "tokenizer.json"))

    def sha256(self) -> str:
        text = json.dumps([self._values, self.seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))


def _vector(name: str, size: int, seed: int) -> np.ndarray:
    """Norms are near 1, biases small."""
    noise = _generator(name, seed).standard_normal(size, np.float32)
    values = noise * np.float32(0.02) + np.float32("norm" in name)
    return values.view(np.uint8).reshape(1, -1)


def _matrix(name: str, rows: int, columns: int, seed: int) -> np.ndarray:
    """Normal, of a deviation that keeps what goes in and what comes out of one size. Two at a time from a table of all
    pairs of 256 values, which takes a fifth of the time of drawing them."""
    levels = _quantiles() * np.float32(columns**-0.5)
    bits = levels.view(np.uint32) >> 16  # truncated to bfloat16
    table = (bits[None, :] | bits[:, None] << 16).reshape(-1)
    generator = _generator(name, seed)
    pairs = np.empty((rows * columns + 1) // 2, "<u4")
    step = 1 << 21
    for begin in range(0, len(pairs), step):
        part = pairs[begin : begin + step]
        drawn = generator.integers(0, (1 << 64) - 1, (len(part) + 3) // 4, np.uint64, endpoint=True)
        np.take(table, drawn.view(np.uint16)[: len(part)], out=part, mode="clip")
    return pairs.view(np.uint8)[: 2 * rows * columns].reshape(rows, 2 * columns)


@functools.cache
def _quantiles() -> np.ndarray:
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)
