"""vx.param, which reads a learned tensor in a flow's methods, and the file that its numbers come from."""

import os

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.language import place
from vortex_attention.language.value import Trace, Value, _spoken

KINDS = ("F32", "F16", "BF16")
FILES, TENSORS = 4, 256  # whose shapes travel with the text of a flow of vortex_torch
_NAME = r"""["']([\w.-]+\.safetensors)["']"""


def shapes_beside(path: str, source: str) -> dict[str, dict[str, list[int]]]:
    """File → tensor → shape of the safetensors files in the folder of a flow of vortex_torch that its text names."""
    if "vortex_torch" not in source:
        return {}
    import re

    from vortex_attention.formats.safetensors_file import SafetensorsFile

    out = {}
    for name in list(dict.fromkeys(re.findall(_NAME, source)))[:FILES]:
        file = os.path.join(os.path.dirname(path), name)
        if os.path.isfile(file):
            tensors = SafetensorsFile(file).tensors
            out[name] = {tensor: list(tensors[tensor].shape) for tensor in sorted(tensors)[:TENSORS]}
    return out


def param(name: str, *axes: str, **sizes: int) -> Value:
    """A learned tensor of the flow's weights by its name, with axes of the model, "head", "token", "dim", or of a size of its own,
    low=16. The file's tensor has them in this order; before them it may have an axis of layers, or of layers and KV heads."""
    trace = Trace.current
    if trace is None:
        raise UserError(
            place.text(), "param belongs in a method of a flow", "a call outside", "call it in score or summarize"
        )
    if not isinstance(name, str):
        raise UserError(
            place.text(),
            "param takes the name of a tensor, then its axes",
            _spoken(name),
            'say vx.param("w", "dim", low=16)',
        )
    for axis in axes:
        if not isinstance(axis, str):
            raise UserError(
                place.text(), "the axes of a parameter have names", _spoken(axis), 'say vx.param("w", "dim", low=16)'
            )
    words = [*axes, *(f"{axis}={size}" for axis, size in sizes.items())]
    return trace.source("param", name=name, axes=", ".join(words))


def read_weights(path: str | os.PathLike, program: _core.Program) -> dict:
    """The tensors of a safetensors file that the program's parameters name, as float32 arrays."""
    import numpy as np

    from vortex_attention.formats.safetensors_file import SafetensorsFile

    tensors, wanted = SafetensorsFile(path).tensors, program.parameters
    if not set(wanted) <= set(tensors):  # the names alone, so that the nearest can be offered
        return {name: np.zeros((), np.float32) for name in tensors if name not in wanted}
    out = {}
    for name in wanted:
        tensor = tensors[name]
        if tensor.kind not in KINDS:
            raise UserError(
                tensor.where, f"a parameter in {', '.join(KINDS)}", f"{name} in {tensor.kind}", "convert the file"
            )
        if tensor.kind == "BF16":
            values = (tensor.data.view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = tensor.data.view("<f4" if tensor.kind == "F32" else "<f2").astype(np.float32)
        out[name] = np.ascontiguousarray(values.reshape(tensor.shape))
    return out


def with_weights(program: _core.Program, path: str | os.PathLike | None, folder: str | None) -> _core.Program:
    """The program with numbers for its parameters, if it has any: from `path`, or else from the file that it names beside its own, in
    `folder`. Without either it stays as it is, and what runs it says so."""
    if not program.parameters:
        return program
    if path is None and program.weights_file and folder is not None:
        beside = os.path.join(folder, program.weights_file)
        path = beside if os.path.exists(beside) else None
    return program if path is None else program.with_weights(read_weights(path, program))
