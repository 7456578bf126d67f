"""Devices by name: what each is, and the words for one that is not there."""

import pytest
import vortex_attention as vx
from vortex_attention import _core


def test_a_device_says_what_it_is():
    assert _core.describe_device("cpu") == "cpu"
    assert _core.describe_device("null").startswith("null")


def test_an_unknown_name():
    with pytest.raises(vx.UserError) as caught:
        _core.describe_device("gpu")
    assert str(caught.value) == (
        '[device] cpu or cuda (or null, which plans and runs nothing); got "gpu"; use one of these names'
    )


def test_cuda_is_there_or_says_what_is_missing():
    try:
        assert _core.describe_device("cuda").startswith("NVIDIA")
    except vx.MachineError as error:
        assert error.where == "device cuda" and error.todo
