"""A model in a Hugging Face folder: config.json and safetensors, in one file or in shards that an index lists.

Weights in f32, f16 and bf16 are used as they lie; fp8 (e4m3) with its scales becomes bf16, a weight at a time. Refuses
other element types, weights quantised in other ways, and an index that points outside its folder.
"""

import functools
import hashlib
import os

import numpy as np

from vortex_attention import _core
from vortex_attention.errors import UserError
from vortex_attention.models.folder_tokenizer import FolderTokenizer, template_of_folder
from vortex_attention.models.hf_config import config_of
from vortex_attention.formats.json_file import Settings, read_object
from vortex_attention.formats.safetensors_file import SafetensorsFile, Tensor
from vortex_attention.models.source import Source
from vortex_attention.models.weights import Weight

_FORMATS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SCALES = ("weight_scale_inv", "weight_scale")


class HfSource(Source):
    def __init__(self, path: str, name: str = ""):
        self.path = path
        self.name = name or os.path.basename(os.path.abspath(path))
        self.where = f"{self.name}/config.json"
        self._values = read_config(path)
        self.config = config_of(self._values, self.where)

    @functools.cached_property
    def files(self) -> list[SafetensorsFile]:
        return [SafetensorsFile(os.path.join(self.path, name)) for name in _files_of(self.path, self.name)]

    def weights(self) -> dict[str, Weight]:
        tensors = _tensors_of(self.files)
        _check_index(self.path, tensors)
        if self.config.tied_embeddings:
            _drop_tied_head(tensors)
        block = self._fp8_block()
        weights = {}
        for name, tensor in tensors.items():
            if name.endswith(".rotary_emb.inv_freq"):  # follows from the config
                continue
            if name.endswith((*_SCALES, ".input_scale")) and _weight_of_scale(name) in tensors:
                continue
            weights[name] = _weight_of(tensor, tensors, block)
        return weights

    def _fp8_block(self) -> tuple[int, int] | None:
        """Rows and columns that share a scale, when the config says so."""
        settings = Settings(self._values, self.where)
        if not settings.has("quantization_config"):
            return None
        quantisation = settings.part("quantization_config")
        quantisation.only("quant_method", "fp8", "fp8")
        quantisation.only("fmt", "e4m3", "e4m3")
        block = quantisation.get("weight_block_size", list, [])
        if not block:
            return None
        if len(block) != 2 or not all(type(size) is int and 1 <= size < 1 << 31 for size in block):
            raise UserError(
                self.where,
                "quantization_config.weight_block_size of two sizes above 0",
                f"got {block}",
                "the file is damaged, fetch it again",
            )
        return block[0], block[1]

    def tokenizer(self) -> FolderTokenizer:
        return FolderTokenizer(self.path)

    def chat_template(self) -> str | None:
        return template_of_folder(self.path)

    def sha256(self) -> str:
        """Of the config and the weight files, in the order of their names."""
        total = hashlib.sha256()
        for path in [os.path.join(self.path, "config.json"), *(file.path for file in self.files)]:
            with open(path, "rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()


def read_config(folder: str) -> dict:
    path = os.path.join(folder, "config.json")
    if not os.path.isfile(path):
        ggufs = sorted(entry for entry in os.listdir(folder) if entry.endswith(".gguf"))
        todo = (
            f"give the path of {ggufs[0]} in it" if ggufs else "give the folder of a model, or the path of a .gguf file"
        )
        raise UserError(os.path.basename(os.path.abspath(folder)), "a folder with a config.json", "it has none", todo)
    return read_object(path)


def _files_of(folder: str, name: str) -> list[str]:
    """The names of the weight files, without doubt about which they are."""
    if os.path.isfile(os.path.join(folder, _INDEX)):
        return sorted(set(_index_of(folder).values()))
    if os.path.isfile(os.path.join(folder, _SINGLE)):
        return [_SINGLE]
    others = sorted(os.listdir(folder))
    safetensors = [entry for entry in others if entry.endswith(".safetensors")]
    if len(safetensors) == 1:
        return safetensors
    weights = [entry for entry in others if entry.endswith((".bin", ".pt", ".pth", ".gguf"))]
    came = f"it has {', '.join((safetensors or weights)[:3])}" if safetensors or weights else "it has no weights"
    raise UserError(
        name, f"a folder with {_SINGLE} or {_INDEX}", came, "fetch the safetensors files, or use --load-format dummy"
    )


def _index_of(folder: str) -> dict[str, str]:
    """{tensor: file}; files are plain names of the folder, whatever the index says."""
    names = Settings(read_object(os.path.join(folder, _INDEX)), _INDEX).get("weight_map", dict)
    for tensor, file in names.items():
        plain = (
            isinstance(file, str)
            and file == os.path.basename(file)
            and file.endswith(".safetensors")
            and "\0" not in file
        )
        if not plain:
            raise UserError(
                _INDEX,
                "names of .safetensors files in the same folder",
                f"got {file!r} for {tensor}",
                "the index is damaged or hostile, fetch it again",
            )
        if not os.path.isfile(os.path.join(folder, file)):
            raise UserError(
                _INDEX, f"the file {file}, which holds {tensor}", "the folder has none", "fetch all files of the model"
            )
    return names


def _tensors_of(files: list[SafetensorsFile]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in file.tensors.items():
            if name in tensors:
                raise UserError(
                    file.where,
                    "each tensor in one file",
                    f"{name} is in {tensors[name].where} too",
                    "fetch the model into an empty folder",
                )
            tensors[name] = tensor
    return tensors


def _check_index(folder: str, tensors: dict[str, Tensor]) -> None:
    if not os.path.isfile(os.path.join(folder, _INDEX)):
        return
    for name, file in _index_of(folder).items():
        if name not in tensors or tensors[name].where != file:
            came = f"it is in {tensors[name].where}" if name in tensors else "no file has it"
            raise UserError(_INDEX, f"the tensor {name} in {file}", came, "index and files must be of one model")


def _drop_tied_head(tensors: dict[str, Tensor]) -> None:
    """Some folders hold the output head a second time; another one than the embedding would be ignored by others and
    meant by nobody."""
    head, embedding = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    if head is None or embedding is None:
        return
    if (head.kind, head.shape) != (embedding.kind, embedding.shape) or not np.array_equal(head.data, embedding.data):
        raise UserError(
            head.where,
            "an lm_head.weight that equals model.embed_tokens.weight, as tie_word_embeddings says",
            "they differ",
            "set tie_word_embeddings to false in config.json if the model has a head of its own",
        )
    del tensors["lm_head.weight"]


def _weight_of_scale(name: str) -> str:
    return name.rpartition(".")[0] + ".weight"


def _weight_of(tensor: Tensor, tensors: dict[str, Tensor], block: tuple[int, int] | None) -> Weight:
    if len(tensor.shape) not in (1, 2) or 0 in tensor.shape:
        raise UserError(
            tensor.where,
            f"one or two dimensions above 0 for {tensor.name}",
            f"got {list(tensor.shape)}",
            "the file may be of an architecture that is not implemented",
        )
    rows, columns = (1, *tensor.shape)[-2:]
    if tensor.kind == "F8_E4M3":
        scales, block_rows, block_columns = _scales_of(tensor, rows, columns, tensors, block)
        bytes_of_fp8 = tensor.data.reshape(rows, columns)
        read = functools.partial(_core.fp8_rows, bytes_of_fp8, scales, block_rows, block_columns)
        return Weight("bf16", rows, columns, read, mapped=False)
    if tensor.kind not in _FORMATS:
        raise UserError(
            tensor.where,
            f"weights in one of {', '.join(_FORMATS)}, F8_E4M3",
            f"{tensor.name} is in {tensor.kind}",
            "convert the model to one of these, bf16 for most",
        )
    return Weight(_FORMATS[tensor.kind], rows, columns, functools.partial(tensor.data.reshape, rows, -1))


def _scales_of(
    tensor: Tensor, rows: int, columns: int, tensors: dict[str, Tensor], block: tuple[int, int] | None
) -> tuple[np.ndarray, int, int]:
    """(scales as a matrix, rows and columns of a block): of the whole weight, of each row, or of blocks."""
    stem = tensor.name.rpartition(".")[0]
    found = [tensors[f"{stem}.{name}"] for name in _SCALES if f"{stem}.{name}" in tensors]
    if len(found) != 1:
        raise UserError(
            tensor.where,
            f"one scale for the fp8 weight {tensor.name}, {' or '.join(f'{stem}.{name}' for name in _SCALES)}",
            f"got {len(found)}",
            "fetch the whole model",
        )
    scale = found[0]
    if scale.kind not in _FORMATS:
        raise UserError(
            scale.where,
            f"scales in one of {', '.join(_FORMATS)}",
            f"{scale.name} is in {scale.kind}",
            "convert the model",
        )
    values = _floats(scale)
    if not np.all(np.isfinite(values)):
        raise UserError(scale.where, f"finite numbers in {scale.name}", "got others", "fetch the model again")
    if values.size == 1:
        return values.reshape(1, 1), rows, columns
    if scale.shape in ((rows,), (rows, 1)):
        return values.reshape(rows, 1), 1, columns
    wanted = [-(-rows // block[0]), -(-columns // block[1])] if block else [1]
    if list(scale.shape) != wanted:
        blocks = f" for blocks of {list(block)}" if block else ", as the config gives no weight_block_size"
        raise UserError(
            scale.where,
            f"{scale.name} of shape {wanted}{blocks}",
            f"got {list(scale.shape)}",
            "the config and the weights must be of one model",
        )
    return values, *block


def _floats(tensor: Tensor) -> np.ndarray:
    if tensor.kind == "BF16":
        return (tensor.data.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(tensor.shape)
    return tensor.data.view("<f4" if tensor.kind == "F32" else "<f2").astype(np.float32).reshape(tensor.shape)
