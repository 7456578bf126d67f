"""GGUF files: metadata and tensors, mapped into memory and checked before anything trusts them.

Every size in the file is compared with the bytes that are left before it is used, so a damaged or hostile file ends
in a UserError, never in a loop or a read beyond the end. Refuses big-endian files, versions other than 2 and 3,
nested arrays, and tensor types that the linears have no kernels for.
"""

import math
import os
import struct
from dataclasses import dataclass

import numpy as np

from vortex_attention.errors import UserError
from vortex_attention.formats.mapped import map_file

# Number in the file: name, weights of a block, bytes of a block.
FORMATS = {
    0: ("f32", 1, 4),
    1: ("f16", 1, 2),
    30: ("bf16", 1, 2),
    8: ("q8_0", 32, 34),
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    12: ("q4_k", 256, 144),
    13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210),
}
OTHER_TYPES = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Tensor:
    """A matrix as the file stores it: `data` is the raw bytes [rows, bytes of a row]."""

    name: str
    format: str
    rows: int
    columns: int
    data: np.ndarray


class GgufFile:
    """`metadata`: {key: number, str, bool or list}; `tensors`: {name: Tensor}, views into the mapped file."""

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self.where = os.path.basename(self.path)
        self.metadata: dict = {}
        self.tensors: dict[str, Tensor] = {}
        self._bytes = map_file(self.path, "a GGUF model file", 24, "give the path of the .gguf file in it")
        self._at = 0
        try:
            self._read()
        except struct.error:
            raise self._damaged("the whole of its header", f"it ends at byte {len(self._bytes)}") from None
        except UnicodeDecodeError:
            raise self._damaged("names and texts in UTF-8", f"broken text before byte {self._at}") from None

    def get(self, key: str, kind: type, default=None):
        """A value of the metadata; UserError when it is absent (and there is no default) or of another kind."""
        value = self.metadata.get(key, default)
        if value is None:
            raise UserError(self.where, f"the metadata {key}", "the file has none", "use a complete GGUF model file")
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UserError(
                self.where,
                f"the metadata {key} to be {_kind(kind)}",
                f"got {_kind(type(value))}",
                "use a complete GGUF model file",
            )
        return value

    def _damaged(self, required: str, came: str) -> UserError:
        return UserError(self.where, required, came, "the file is damaged or incomplete, fetch it again")

    def _need(self, count: int, size: int, what: str) -> None:
        left = len(self._bytes) - self._at
        if count * size > left:
            raise self._damaged(f"{what} that fit the file", f"got {count}, with {left} bytes left")

    def _scalar(self, layout: str):
        (value,) = struct.unpack_from(layout, self._bytes, self._at)
        self._at += struct.calcsize(layout)
        return value

    def _text(self) -> str:
        length = self._scalar("<Q")
        self._need(length, 1, "letters of a text")
        self._at += length
        return self._bytes[self._at - length : self._at].decode()

    def _value(self, kind: int, key: str):
        if kind == _STRING:
            return self._text()
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind != _ARRAY:
            raise self._damaged(f"a known kind of value for {key}", f"got kind {kind}")
        item, count = self._scalar("<I"), self._scalar("<Q")
        if item == _STRING:
            self._need(count, 8, f"texts of {key}")
            return [self._text() for _ in range(count)]
        if item not in _SCALARS:
            raise self._damaged(f"an array of numbers or texts for {key}", f"got items of kind {item}")
        layout = np.dtype(_SCALARS[item].replace("?", "b1"))
        self._need(count, layout.itemsize, f"items of {key}")
        values = np.frombuffer(self._bytes, layout, count, self._at).tolist()
        self._at += count * layout.itemsize
        return values

    def _read(self) -> None:
        magic = self._bytes[:4]
        if magic != b"GGUF":
            raise UserError(
                self.where,
                "a GGUF file, which starts with the bytes 'GGUF'",
                f"it starts with {bytes(magic)!r}",
                "give the path of a .gguf file",
            )
        self._at = 4
        version = self._scalar("<I")
        if version not in (2, 3):
            came = "it is big-endian" if version & 0xFFFF == 0 else f"got version {version}"
            raise UserError(self.where, "a little-endian GGUF file of version 2 or 3", came, "convert the file again")
        tensor_count, value_count = self._scalar("<Q"), self._scalar("<Q")
        self._need(value_count, 13, "metadata values")  # an empty key, a kind, a byte
        self._need(tensor_count, 32, "tensors")  # an empty name, one dimension, a type, an offset
        for _ in range(value_count):
            key = self._text()
            if key in self.metadata:
                raise self._damaged("each metadata key once", f"{key} comes twice")
            self.metadata[key] = self._value(self._scalar("<I"), key)
        infos = [self._tensor_info() for _ in range(tensor_count)]
        alignment = self.get("general.alignment", int, 32)
        if not 1 <= alignment <= 1 << 20:
            raise self._damaged("an alignment from 1 to 1048576", f"got {alignment}")
        start = -(-self._at // alignment) * alignment
        for info in infos:
            self._add_tensor(start, alignment, *info)

    def _tensor_info(self):
        name, dimensions = self._text(), self._scalar("<I")
        if not 1 <= dimensions <= 4:
            raise self._damaged(f"1 to 4 dimensions for the tensor {name}", f"got {dimensions}")
        shape = [self._scalar("<Q") for _ in range(dimensions)]
        return name, shape, self._scalar("<I"), self._scalar("<Q")

    def _add_tensor(self, start: int, alignment: int, name: str, shape: list[int], kind: int, offset: int) -> None:
        if name in self.tensors:
            raise self._damaged("each tensor once", f"{name} comes twice")
        if kind not in FORMATS:
            known = ", ".join(name for name, _, _ in FORMATS.values())
            raise UserError(
                self.where,
                f"tensors in one of {known}",
                f"{name} is in {OTHER_TYPES.get(kind, f'type {kind}')}",
                "convert the file to one of these formats, q4_k or q8_0 for speed",
            )
        format_name, block, block_bytes = FORMATS[kind]
        columns, rows = shape[0], math.prod(shape[1:])
        if columns < 1 or rows < 1 or columns % block:
            raise self._damaged(
                f"positive dimensions and a multiple of {block} columns for the tensor {name}", f"got {shape[::-1]}"
            )
        row_bytes = columns // block * block_bytes
        left = len(self._bytes) - start - offset
        if offset % alignment or row_bytes * rows > left:
            raise self._damaged(
                f"{row_bytes * rows} bytes of the tensor {name} at a multiple of {alignment}",
                f"offset {offset} leaves {max(left, 0)}",
            )
        data = np.frombuffer(self._bytes, np.uint8, row_bytes * rows, start + offset).reshape(rows, row_bytes)
        self.tensors[name] = Tensor(name, format_name, rows, columns, data)


def _kind(kind: type) -> str:
    return {int: "an integer", float: "a number", str: "a text", list: "a list", bool: "true or false"}.get(
        kind, kind.__name__
    )
