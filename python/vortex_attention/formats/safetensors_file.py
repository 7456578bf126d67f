"""Safetensors files: tensors by name, mapped into memory and checked before anything trusts them.

Every size in the header is compared with the bytes that there are, and the tensors must fill the file without gaps or
overlaps, as the format demands. Refuses element types that it has no name for. Says nothing about what a tensor means.
"""

import json
import math
import os
from dataclasses import dataclass

import numpy as np

from vortex_attention.errors import UserError
from vortex_attention.formats.json_file import parse_object
from vortex_attention.formats.mapped import map_file

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "BOOL": 1}
_BYTES |= {f"{kind}{8 * size}": size for kind in "IU" for size in (1, 2, 4, 8)}
_MOST_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class Tensor:
    name: str
    kind: str  # "BF16"
    shape: tuple[int, ...]
    data: np.ndarray  # uint8 [bytes], a view into the mapped file
    where: str


class SafetensorsFile:
    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self.where = os.path.basename(self.path)
        self._bytes = map_file(self.path, "a safetensors file", 10)
        length = int.from_bytes(self._bytes[:8], "little")
        if length > min(_MOST_HEADER, len(self._bytes) - 8):
            raise self._damaged(
                "a safetensors file, which starts with the length of its header",
                f"got a header of {length} bytes in a file of {len(self._bytes)}",
            )
        header = parse_object(self._bytes[8 : 8 + length], self.where)
        header.pop("__metadata__", None)
        self._start = 8 + length
        self.tensors: dict[str, Tensor] = {}
        spans = [self._add(name, entry) for name, entry in header.items()]
        end = 0
        for begin, stop, name in sorted(spans):
            if begin != end:
                raise self._damaged(f"the tensor {name} at byte {end}, where the one before it ends", f"got {begin}")
            end = stop
        if end != len(self._bytes) - self._start:
            raise self._damaged(
                f"{end} bytes of tensors, as the header says", f"the file has {len(self._bytes) - self._start}"
            )

    def _damaged(self, required: str, came: str) -> UserError:
        return UserError(self.where, required, came, "the file is damaged or incomplete, fetch it again")

    def _add(self, name: str, entry) -> tuple[int, int, str]:
        entry = entry if isinstance(entry, dict) else {}
        kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
        if not (isinstance(kind, str) and _sizes(shape) and _sizes(offsets) and len(offsets) == 2):
            raise self._damaged(
                f"dtype, shape and data_offsets of the tensor {name}", "got something else, or sizes that are none"
            )
        if kind not in _BYTES:
            raise UserError(
                self.where, f"elements in one of {', '.join(_BYTES)}", f"{name} is in {kind}", "convert the file"
            )
        begin, end = offsets
        size = math.prod(shape) * _BYTES[kind]
        if begin > end or end - begin != size or end > len(self._bytes) - self._start:
            raise self._damaged(
                f"{size} bytes of the tensor {name} {list(shape)} in {kind}",
                f"got bytes {begin} to {end} of {len(self._bytes) - self._start}",
            )
        data = np.frombuffer(self._bytes, np.uint8, size, self._start + begin)
        self.tensors[name] = Tensor(name, kind, tuple(shape), data, self.where)
        return begin, end, name


def _sizes(value) -> bool:
    """A list of some sizes that fit 63 bits; products of several are Python's, which do not overflow."""
    return (
        isinstance(value, list) and len(value) <= 8 and all(type(size) is int and 0 <= size < 1 << 63 for size in value)
    )


def write(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Writes float32 arrays by name, whole or not at all."""
    header, end, parts = {}, 0, []
    for name, array in arrays.items():
        parts.append(np.ascontiguousarray(array, "<f4").tobytes())
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [end, end + len(parts[-1])]}
        end += len(parts[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = f"{os.fspath(path)}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.writelines(parts)
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.unlink(part)
