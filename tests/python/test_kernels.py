"""The kernels' binding: the measured bandwidth, the instruction set, and the words of their errors."""

import os
import subprocess
import sys

import pytest

from vortex_attention import _core
from vortex_attention.errors import UserError


def test_bandwidth_is_a_rate():
    rate = _core.measured_read_bandwidth(1, bytes=64 << 20, passes=2)
    assert 1e8 < rate < 1e13


def test_bandwidth_refuses_a_small_buffer():
    with pytest.raises(
        UserError, match=r"\[bandwidth\] a buffer of at least 64 MiB and at least one pass; got 5 bytes, 8 passes"
    ):
        _core.measured_read_bandwidth(1, bytes=5)


def test_isa_is_one_that_runs():
    assert _core.runnable_isas()[0] == "portable"
    assert _core.active_isa() in _core.runnable_isas()


@pytest.mark.parametrize(
    "name,expected",
    [("portable", "portable"), ("none", "[VORTEX_ISA] an instruction set this processor runs: portable")],
)
def test_isa_from_the_environment(name, expected):
    code = "from vortex_attention import _core\ntry: print(_core.active_isa())\nexcept Exception as error: print(error)"
    out = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "VORTEX_ISA": name}, capture_output=True, text=True
    )
    assert out.stdout.startswith(expected), out
