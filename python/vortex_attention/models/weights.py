"""Weights by name, as every source of a model hands them to the engine: read, converted or made one at a time, when
they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vortex_attention import _core


@dataclass(frozen=True)
class Weight:
    """A matrix under its HF name, channels of q and k in HF order; a vector is one row. `format` names how the bytes of
    a row are laid out (docs/kernels.md)."""

    format: str
    rows: int
    columns: int
    read: Callable[[], np.ndarray]  # uint8 [rows, bytes of a row]
    mapped: bool = True  # what `read` gives lies in a file, so that it takes no memory of its own

    @property
    def bytes(self) -> int:
        return self.rows * _core.row_bytes(self.format, self.columns)


class Weights(Mapping):
    """{name: (format, raw rows, columns)}, as _core.make_model takes them."""

    def __init__(self, weights: Mapping[str, Weight]):
        self._weights = weights

    def __getitem__(self, name: str) -> tuple[str, np.ndarray, int]:
        weight = self._weights[name]
        return weight.format, weight.read(), weight.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)
