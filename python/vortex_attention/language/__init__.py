"""The flow language: classes of a few lines that trace into programs of the IR. See docs/language.md.

Every op of the C++ table is a function here and a method of Value, made from the table when this module is imported.
"""

from vortex_attention.language import value as _value
from vortex_attention.language.flow import trace, vFlow
from vortex_attention.language.parameters import param
from vortex_attention.language.value import Value, conv

globals().update(_value.FUNCTIONS)

__all__ = ["Value", "conv", "param", "trace", "vFlow", *_value.FUNCTIONS]
