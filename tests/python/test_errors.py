"""Errors keep their kind, their four parts and their words when they cross from C++ to Python."""

import copy
import pickle

import pytest
import vortex_attention as vx
from vortex_attention import _core
from vortex_attention.models import open_source

PARTS = dict(where="flow.py:3", required="an axis of q: head, dim", came="'heads'", todo="did you mean 'head'?")
WORDS = "[flow.py:3] an axis of q: head, dim; 'heads'; did you mean 'head'?"


@pytest.mark.parametrize(
    "kind, base", [("UserError", ValueError), ("MachineError", RuntimeError), ("InternalError", RuntimeError)]
)
def test_a_cpp_error_arrives_as_its_python_type(kind, base):
    with pytest.raises(vx.VortexError) as caught:
        _core.throw_error(kind, **PARTS)
    error = caught.value
    assert type(error) is getattr(vx, kind)
    assert isinstance(error, base)
    assert {name: getattr(error, name) for name in PARTS} == PARTS
    assert str(error) == WORDS


def test_python_and_cpp_say_the_same_words():
    for parts in (PARTS, dict(PARTS, came=""), dict(PARTS, todo=""), dict(PARTS, came="", todo="")):
        with pytest.raises(vx.UserError) as caught:
            _core.throw_error("UserError", **parts)
        assert str(caught.value) == str(vx.UserError(**parts))


def test_words_cut_inside_a_letter_arrive():
    with pytest.raises(vx.UserError, match="a setting of a flow.*\ufffd"):
        vx.load_flow("quest").with_settings({"x" * 79 + "é": "1"})


def test_an_unknown_kind_is_refused_with_the_kinds_there_are():
    with pytest.raises(vx.UserError, match=r"^\[kind\] one of UserError, MachineError, InternalError; got 'Oops'"):
        _core.throw_error("Oops", **PARTS)


def test_errors_survive_copying_and_pickling():
    error = vx.UserError(**PARTS)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is vx.UserError and str(again) == WORDS


def test_nearest_name():
    assert _core.nearest_name("bugdet", ["budget", "sinks"]) == "budget"
    assert _core.nearest_name("temperature", ["budget", "sinks"]) == ""
    # What UTF-8 cannot hold comes from command lines and JSON files.
    assert _core.nearest_name("budge\udcff", ["budget", "\ud800"]) == "budget"
    with pytest.raises(vx.UserError, match="got '.udcff'; check the name"):
        open_source("\udcff")
