"""Weight formats: what their bytes mean, after the gguf package's own decoding of the same random blocks, and linears after float64."""

import gguf
import numpy as np
import pytest
from reference.random_model import TYPES, random_blocks

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.models.gguf_file import FORMATS, OTHER_TYPES

INTEGERS = [name for name in TYPES if name.startswith("q")]


def test_the_table_of_formats_is_the_packages():
    for number, (name, block, block_bytes) in FORMATS.items():
        kind = gguf.GGMLQuantizationType(number)
        assert kind.name.lower() == name and gguf.GGML_QUANT_SIZES[kind] == (block, block_bytes)
    assert {kind: gguf.GGMLQuantizationType(kind).name for kind in OTHER_TYPES} == OTHER_TYPES
    assert sorted(TYPES) == sorted(name for name, _, _ in FORMATS.values())


@pytest.mark.parametrize("format", INTEGERS)
def test_random_blocks_decode_as_the_package_decodes_them(format):
    rng = np.random.default_rng(1)
    for size in (1e-3, 0.1, 100.0):  # small scales are subnormal in float16
        raw = random_blocks(format, 64, 1024, rng, size)
        expected = gguf.quants.dequantize(raw, TYPES[format])
        assert np.array_equal(_core.decode_weights(format, raw, 1024), expected)


def test_floats_decode_as_the_package_decodes_them():
    rng = np.random.default_rng(2)
    values = rng.normal(0, 1, (8, 96)).astype(np.float32) * np.float32(2.0) ** rng.integers(-30, 15, (8, 96))
    for format in ("f32", "f16", "bf16"):
        raw = (
            np.ascontiguousarray(gguf.quants.quantize(values.astype(np.float32), TYPES[format]))
            .view(np.uint8)
            .reshape(8, -1)
        )
        expected = gguf.quants.dequantize(raw, TYPES[format]).reshape(8, 96)
        assert np.array_equal(_core.decode_weights(format, raw, 96), expected)


@pytest.mark.parametrize("format", INTEGERS)
def test_a_linear_is_exact_up_to_the_rounding_of_its_input(format):
    """Inputs that int8 holds exactly give the product of the file's weights, to float32; others lose half a percent, or next to
    nothing with a second int8."""
    rng = np.random.default_rng(3)
    raw = random_blocks(format, 37, 768, rng)
    weights = gguf.quants.dequantize(raw, TYPES[format]).astype(np.float64)
    whole = rng.integers(-127, 128, (5, 768)).astype(np.float32)
    whole[:, ::16] = 127  # every 16 columns reach the end of int8: the scale is 1
    size = np.abs(whole) @ np.abs(weights).T
    assert (np.abs(_core.linear(format, raw, whole) - whole @ weights.T) <= 1e-6 * size).all()
    x = rng.normal(0, 1, (5, 768)).astype(np.float32)
    deviation = np.sqrt((x.astype(np.float64) ** 2) @ (weights.T**2))
    error = np.abs(_core.linear(format, raw, x) - x @ weights.T) / deviation
    again = np.abs(_core.linear(format, raw, x, twice=True) - x @ weights.T) / deviation
    assert 1e-4 < error.max() < 0.03 and again.max() < 2e-4


def test_rows_must_fit_their_format():
    rows = np.zeros((2, 144), np.uint8)
    with pytest.raises(
        UserError, match=r"\[weights\] 288 bytes a row of 512 weights in q4_k; got an array \[2, 144\]; pass the rows"
    ):
        _core.decode_weights("q4_k", rows, 512)
    with pytest.raises(UserError, match=r"\[linear\] q4_k rows of a multiple of 256 columns; got 100 columns"):
        _core.linear("q4_k", rows, np.zeros((1, 100), np.float32))
    with pytest.raises(UserError, match=r"\[weight format\] one of f32, .*; got q3_k; convert the weights"):
        _core.decode_weights("q3_k", rows, 256)
