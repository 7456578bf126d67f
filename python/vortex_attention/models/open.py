"""Opens a model by what a person names: a known name, a file, a folder, or a shape for made-up weights. Refuses other names with
the nearest one. The kinds of source are imported when one is opened, so that naming a model costs nothing."""

import os

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.models.source import Source

FORMATS = ("auto", "dummy")


def place_of(name_or_path: str | os.PathLike) -> str:
    """What opens the same model from any folder: a known name as it is, the absolute path of a file or folder."""
    from vortex_attention.models import fetch

    name = os.fspath(name_or_path)
    return name if name in fetch.MODELS or not _is_path(name) else os.path.abspath(name)


def _is_path(name: str) -> bool:
    return os.path.exists(name) or os.sep in name or name.endswith(".gguf")


def open_source(name_or_path: str | os.PathLike, load_format: str = "auto", seed: int = 0) -> Source:
    """Of a known model (fetched when it is not there yet), a .gguf file or a Hugging Face folder. load_format "dummy":
    of the config.json in a folder or of a known shape, with random weights from the seed."""
    from vortex_attention.models import fetch
    from vortex_attention.models.dummy_source import DummySource, known_shapes
    from vortex_attention.models.gguf_source import GgufSource
    from vortex_attention.models.hf_source import HfSource

    if load_format not in FORMATS:
        near = _core.nearest_name(load_format, list(FORMATS))
        todo = f"did you mean {near}?" if near else "leave it out to load what is there"
        raise UserError("--load-format", f"one of {', '.join(FORMATS)}", f"got {load_format!r}", todo)
    name, shapes = os.fspath(name_or_path), known_shapes()
    is_folder = os.path.isdir(name)
    if load_format == "dummy":
        if name in shapes:
            return DummySource(name=name, seed=seed)
        if is_folder and os.path.isfile(os.path.join(name, "config.json")):
            return DummySource(folder=name, seed=seed)
        known, required = shapes, "a folder with a config.json or one of the shapes"
    else:
        if name in fetch.MODELS:
            return GgufSource(os.fspath(fetch.fetch(name)), name)
        if is_folder:
            return HfSource(name)
        if _is_path(name):
            return GgufSource(name)
        known, required = list(fetch.MODELS), "the path of a .gguf file or of a model's folder, or one of the models"
    near = _core.nearest_name(name, known)
    todo = f"did you mean {near}?" if near else "check the name"
    if load_format == "auto" and name in shapes:
        todo = "of this one the shape alone is known: give --load-format dummy for made-up weights, or the path of its files"
    raise UserError("model", f"{required} {', '.join(known)}", f"got {name!r}", todo)
