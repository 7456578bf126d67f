"""Tiny random Llamas, Qwen2s, Qwen3s and Qwen3-MoEs as GGUF files with a byte-level vocabulary: models without a
download."""

from pathlib import Path

import gguf
import numpy as np

TYPES = {kind.name.lower(): kind for kind in map(gguf.GGMLQuantizationType, (0, 1, 30, 8, 2, 3, 6, 7, 12, 13, 14))}
# Where the float16 of a block lie, and about how large a weight of a random block is in units of the first of them.
_SCALES = {"q8_0": ([0], 74), "q4_0": ([0], 4.6), "q4_1": ([0, 2], 4.6), "q5_0": ([0], 9.2), "q5_1": ([0, 2], 9.2),
           "q4_k": ([0, 2], 240), "q5_k": ([0, 2], 480), "q6_k": ([208], 1370)}  # fmt: skip


def random_blocks(format: str, rows: int, columns: int, rng: np.random.Generator, size: float = 0.1) -> np.ndarray:
    """Raw rows [rows, bytes of a row] of a format of integers: every byte random but the float16 scales, weights about `size`."""
    block, block_bytes = gguf.GGML_QUANT_SIZES[TYPES[format]]
    offsets, units = _SCALES[format]
    raw = rng.integers(0, 256, (rows * columns // block, block_bytes), dtype=np.uint8)
    for index, at in enumerate(offsets):
        scale = rng.uniform(0.5, 1.5, len(raw)) * size / units
        if index:  # the minimum of a block; so that weights are about zero on average
            scale *= {"q4_k": 7.5, "q5_k": 15.5, "q4_1": -7.5, "q5_1": -15.5}[format]
        raw[:, at : at + 2] = scale.astype(np.float16).view(np.uint8).reshape(-1, 2)
    return raw.reshape(rows, -1)


SIZES = dict(
    layers=2, width=64, ffn_width=96, heads=4, kv_heads=2, head_dim=32, context=512, rms_epsilon=1e-5, rope_base=10000.0
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "Ġwor l", "Ġworl d"]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_letters() -> list[str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in letters)}
    return [letters[byte] for byte in range(256)]


def vocabulary() -> list[str]:
    return [*CONTROL, *byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]


def random_llama(
    path: Path,
    *,
    architecture: str = "llama",
    seed: int = 0,
    format: str = "f32",
    tied: bool = True,
    without: str = "",
    change=None,
    unused: int = 0,
    **sizes,
) -> Path:
    """Writes the file and returns its path. without: a tensor to leave out. unused: tokens that no text has: a device wants a vocabulary
    in multiples of 8. change(writer): more metadata, last word."""
    unknown = set(sizes) - set(SIZES)
    assert not unknown, unknown
    wide = dict(width=256, ffn_width=256, heads=8) if format.endswith("_k") else {}  # whole super-blocks
    s = SIZES | wide | sizes
    rng = np.random.default_rng(seed)
    tokens = [*vocabulary(), *(f"<unused{i}>" for i in range(unused))]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(s["layers"])
    writer.add_context_length(s["context"])
    writer.add_embedding_length(s["width"])
    writer.add_feed_forward_length(s["ffn_width"])
    writer.add_head_count(s["heads"])
    writer.add_head_count_kv(s["kv_heads"])
    writer.add_key_length(s["head_dim"])
    writer.add_rope_freq_base(s["rope_base"])
    writer.add_layer_norm_rms_eps(s["rms_epsilon"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    experts, hidden = 8 if architecture == "qwen3moe" else 0, 256 if wide else 32  # of an expert
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(3)
        writer.add_expert_feed_forward_length(hidden)
    if change:
        change(writer)

    def matrix(name: str, rows: int, columns: int) -> None:
        if format.endswith("_k"):  # the package decodes them and does not make them
            raw = random_blocks(format, rows, columns, rng, columns**-0.5)
        else:
            values = rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
            raw = gguf.quants.quantize(values, TYPES[format])
        if name != without:
            writer.add_tensor(name, raw, raw_dtype=TYPES[format])

    def matrices(name: str, rows: int, columns: int) -> None:
        if format.endswith("_k"):
            raw = random_blocks(format, experts * rows, columns, rng, columns**-0.5).reshape(experts, rows, -1)
        else:
            values = rng.normal(0, columns**-0.5, (experts, rows, columns)).astype(np.float32)
            raw = gguf.quants.quantize(values, TYPES[format])
        writer.add_tensor(name, raw, raw_dtype=TYPES[format])

    def norm(name: str, size: int = 0) -> None:
        values = rng.normal(1, 0.1, size or s["width"]).astype(np.float32)
        if name != without:
            writer.add_tensor(name, values)

    def biases(i: int, names: dict[str, int]) -> None:
        for name, size in names.items():
            writer.add_tensor(f"blk.{i}.{name}.bias", rng.normal(0, 0.5, size).astype(np.float32))

    q_width, kv_width = s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
    matrix("token_embd.weight", len(tokens), s["width"])
    for i in range(s["layers"]):
        norm(f"blk.{i}.attn_norm.weight")
        norm(f"blk.{i}.ffn_norm.weight")
        matrix(f"blk.{i}.attn_q.weight", q_width, s["width"])
        matrix(f"blk.{i}.attn_k.weight", kv_width, s["width"])
        matrix(f"blk.{i}.attn_v.weight", kv_width, s["width"])
        if architecture == "qwen2":
            biases(i, {"attn_q": q_width, "attn_k": kv_width, "attn_v": kv_width})
        matrix(f"blk.{i}.attn_output.weight", s["width"], q_width)
        if architecture.startswith("qwen3"):
            norm(f"blk.{i}.attn_q_norm.weight", s["head_dim"])
            norm(f"blk.{i}.attn_k_norm.weight", s["head_dim"])
        if experts:
            writer.add_tensor(
                f"blk.{i}.ffn_gate_inp.weight", rng.normal(0, 0.4, (experts, s["width"])).astype(np.float32)
            )
            matrices(f"blk.{i}.ffn_gate_exps.weight", hidden, s["width"])
            matrices(f"blk.{i}.ffn_up_exps.weight", hidden, s["width"])
            matrices(f"blk.{i}.ffn_down_exps.weight", s["width"], hidden)
            continue
        matrix(f"blk.{i}.ffn_gate.weight", s["ffn_width"], s["width"])
        matrix(f"blk.{i}.ffn_up.weight", s["ffn_width"], s["width"])
        matrix(f"blk.{i}.ffn_down.weight", s["width"], s["ffn_width"])
    norm("output_norm.weight")
    if not tied:
        matrix("output.weight", len(tokens), s["width"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
