"""The JSON configs of vortex_torch: which flow of which file, and its settings. What belongs to its engine alone is named, not used."""

import json
import os

from vortex_attention import _core
from vortex_attention.errors import UserError

USED = {  # setting → what it takes
    "module_path": "text",
    "module_name": "text",
    "block_size": "whole",
    "topk_val": "whole",
    "topk_ratio": "share",
    "block_reserved_bos": "pages",
    "block_reserved_eos": "pages",
    "layers_skip": "layers",
    "dtype": "dtype",
    "schedule_policy": "policy",
}
OLDER = {
    "page_size": "block_size",
    "page_reserved_bos": "block_reserved_bos",
    "page_reserved_eos": "block_reserved_eos",
}
UNUSED = (  # of its engine: how it compiles, sizes and stores, not what a flow chooses
    "workload_chunk_size", "max_topk_val", "max_seq_lens", "attention_backend", "impl_backend", "use_tensor_core", "compilation_cache_dir",
    "host_kv_gb", "host_kv_pool_blocks", "host_kv_policy", "kv_int4", "topk_type", "topk_mapping_mode", "topk_mapping_power", "num_selected_pages",
)  # fmt: skip
PREFIX = "vortex_"


class Config:
    """What a config says."""

    def __init__(self):
        self.module_path = ""  # of the flow file, found
        self.module_name = None
        self.settings = {}  # as compat.flow.DEFAULTS names them
        self.unused = []  # keys that are not used here


def is_config(text: str) -> bool:
    """Whether a JSON text is such a config and not a program of the IR."""
    return text.lstrip().startswith("{") and '"vortex_ir"' not in text


def _fail(path: str, key: str, required: str, came, todo: str):
    shown = json.dumps(came) if not isinstance(came, str) or came == "" else came
    raise UserError(f"{path} {key}".strip(), required, shown[:200], todo)


def _checked(path: str, key: str, kind: str, value):
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind == "text" and not (isinstance(value, str) and value):
        _fail(path, key, "a text that is not empty", value, "give the name")
    if kind == "whole" and not (whole and value >= 1):
        _fail(path, key, "a whole number of at least 1", value, "give such a number")
    if kind == "pages" and not (whole and value >= (1 if key.endswith("eos") else 0)):
        _fail(path, key, f"a whole number of at least {1 if key.endswith('eos') else 0}", value, "give such a number")
    if kind == "share":
        value = 0.0 if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            _fail(path, key, "a share from 0 to 1", value, "give such a number")
    if kind == "layers":
        value = [0] if value is None else value
        if not isinstance(value, list) or not all(
            isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0 for layer in value
        ):
            _fail(path, key, "a list of layer numbers", value, "say [0] or []")
    if kind == "dtype":
        value = str(value).removeprefix("torch.")
        if value not in ("bfloat16", "float32"):
            _fail(path, key, "bfloat16 or float32: fields are stored in one of them", value, "say bfloat16")
    if kind == "policy" and not (value is None or isinstance(value, str) and value.strip()):
        _fail(
            path,
            key,
            "the body of a CUDA C++ function",
            value,
            "say return topk_val + block_reserved_bos + block_reserved_eos;",
        )
    return value


def _found(path: str, module_path: str) -> str:
    """Beside the JSON, then in the working directory, then in the folders above the JSON."""
    folder = os.path.dirname(os.path.abspath(path))
    tried = [os.path.join(folder, module_path), os.path.abspath(module_path)]
    while folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
        tried.append(os.path.join(folder, module_path))
    for place in tried:
        if os.path.isfile(place):
            return os.path.relpath(place) if place.startswith(os.getcwd() + os.sep) else place
    _fail(
        path,
        PREFIX + "module_path",
        "a flow file beside the JSON, in the working directory or in a folder above the JSON",
        module_path,
        "check the path",
    )


def read(text: str, path: str) -> Config:
    """The config of a JSON text; `path` is where it lies. UserError names the file and the key."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        _fail(path, "", "a config is valid JSON", str(error)[:200], "correct it")
    if not isinstance(data, dict):
        _fail(path, "", "a config is a JSON object", data, "write {...}")
    prefix = PREFIX if any(key.startswith(PREFIX) for key in data) else ""
    out, values = Config(), {}
    for key, value in data.items():
        name = key.removeprefix(prefix) if key.startswith(prefix) else None
        name = OLDER.get(name, name)
        if name in USED:
            if name in values:
                _fail(path, key, "a setting is given once", "also by its other name", "leave one out")
            if name == "module_path" and value is None:
                continue
            values[name] = _checked(path, key, USED[name], value)
        elif name is not None and prefix and name not in UNUSED:
            near = _core.nearest_name(name, [*USED, *UNUSED])
            _fail(
                path,
                key,
                "a setting of vortex_torch",
                key,
                f"did you mean {prefix}{near}?" if near else "docs/compat.md lists them",
            )
        else:
            out.unused.append(key)
    if "module_path" not in values:
        _fail(path, prefix + "module_path", "the path of a flow file", "nothing", 'give it, say "quest.py"')
    out.module_path, out.module_name = _found(path, values.pop("module_path")), values.pop("module_name", None)
    out.settings = values
    return out
