"""Models from files: `load_model("smollm2")`, `load_model("path/to/model.gguf")` or `load_model("path/to/folder")`.

What is named here is imported when it is first used: the shapes of known models (geometry.py) need no arrays.
"""

import importlib

_PLACES = {
    "ChatTemplate": "chat",
    "LoadedModel": "loaded",
    "Memory": "memory",
    "Source": "source",
    "Tokenizer": "tokenizer",
    "load_model": "loaded",
    "memory_of": "memory",
    "open_source": "open",
    "place_of": "open",
}
__all__ = [
    "ChatTemplate",
    "LoadedModel",
    "Memory",
    "Source",
    "Tokenizer",
    "load_model",
    "memory_of",
    "open_source",
    "place_of",
]


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value
