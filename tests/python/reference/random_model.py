"""Tiny random Llamas (and Qwen2s, which add biases) as GGUF files with a byte-level vocabulary: models without a
download."""

from pathlib import Path

import gguf
import numpy as np

TYPES = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16, "bf16": gguf.GGMLQuantizationType.BF16,
         "q8_0": gguf.GGMLQuantizationType.Q8_0, "q4_1": gguf.GGMLQuantizationType.Q4_1}  # fmt: skip
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
    **sizes,
) -> Path:
    """Writes the file and returns its path. without: a tensor to leave out. change(writer): more metadata, last word."""
    unknown = set(sizes) - set(SIZES)
    assert not unknown, unknown
    s = SIZES | sizes
    rng = np.random.default_rng(seed)
    tokens = vocabulary()
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
    if change:
        change(writer)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
        if name != without:
            writer.add_tensor(name, gguf.quants.quantize(values, TYPES[format]), raw_dtype=TYPES[format])

    def norm(name: str) -> None:
        values = rng.normal(1, 0.1, s["width"]).astype(np.float32)
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
