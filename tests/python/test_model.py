"""Models from files: their logits against the float64 reference, and every way a file can be wrong."""

import gc
import weakref

import numpy as np
import pytest
import vortex_attention as vx
from reference.llama import Llama, round_to_bfloat16
from reference.random_model import SIZES, TYPES, random_llama
from vortex_attention import _core
from vortex_attention.models import load_model


class Attention:
    """Full attention in float64 over one sequence, for Model.step."""

    def __init__(self, config, tokens, bfloat16=True):
        self.config, self.keys, self.values = config, {}, {}
        self.store = round_to_bfloat16 if bfloat16 else lambda x: x

    def __call__(self, layer, q, k, v):
        before = self.keys.get(layer, np.empty((0, *k.shape[1:])))
        keys = self.keys[layer] = np.concatenate([before, self.store(k)]).astype(float)
        values = self.values[layer] = np.concatenate([self.values.get(layer, before), self.store(v)]).astype(float)
        group = self.config.heads // self.config.kv_heads
        logits = np.einsum("thd,shd->ths", q.astype(float), keys.repeat(group, 1)) / np.sqrt(self.config.head_dim)
        total, new = len(keys), len(q)
        logits[~(np.arange(total) <= np.arange(total - new, total)[:, None, None]).repeat(q.shape[1], 1)] = -np.inf
        share = np.exp(logits - logits.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        return np.einsum("ths,shd->thd", share, values.repeat(group, 1)).astype(np.float32)


# Largest difference of a logit, in units of the logits' standard deviation. Float weights: float32 sums, and keys that
# round to another bfloat16. Integer weights: activations are int8 too, with half a step of 1/127 of a block's peak each.
BOUND = {"f32": 0.004, "f16": 0.004, "bf16": 0.004}
INTEGER_BOUND = 0.15


@pytest.mark.parametrize("format", TYPES)
@pytest.mark.parametrize(
    "architecture, tied", [("llama", True), ("llama", False), ("qwen2", True), ("qwen3", True), ("qwen3moe", False)]
)
def test_logits_agree_with_the_reference(tmp_path, format, architecture, tied):
    path = random_llama(tmp_path / "tiny.gguf", architecture=architecture, seed=11, format=format, tied=tied)
    loaded = load_model(path)
    tokens = np.random.default_rng(5).integers(0, loaded.config.vocabulary, 40)
    reference = Llama.from_gguf(path)
    (expected,) = reference.forward([(reference.cache(), tokens)])
    rows = list(range(len(tokens)))
    got = loaded.model.step(tokens, rows, Attention(loaded.config, tokens), rows, threads=2)
    errors = np.abs(got - expected).max(-1) / expected.std()
    error = errors.max()
    print(f"{architecture} {format}: largest difference {error:.2g} deviations")
    if architecture == "qwen3moe" and format not in BOUND:
        # Where two experts are nearly as likely, rounded activations may choose the other one.
        error = np.quantile(errors, 0.75)
    assert got.shape == expected.shape and error < BOUND.get(format, INTEGER_BOUND)


@pytest.mark.parametrize("kind", ["linear", "yarn", "divisors"])
def test_scaled_rope_of_a_file(tmp_path, kind):
    def scale(writer):
        if kind == "divisors":
            writer.add_tensor("rope_freqs.weight", np.geomspace(1, 8, 16, dtype=np.float32))
            return
        writer.add_string("llama.rope.scaling.type", kind)
        writer.add_float32("llama.rope.scaling.factor", 4.0)
        writer.add_uint32("llama.rope.scaling.original_context_length", 128)

    path = random_llama(tmp_path / "tiny.gguf", seed=2, change=scale)
    loaded, reference = load_model(path), Llama.from_gguf(path, kv_bfloat16=False)
    tokens = np.random.default_rng(6).integers(0, loaded.config.vocabulary, 64)
    (expected,) = reference.forward([(reference.cache(), tokens)])
    got = loaded.model.step(tokens, range(64), Attention(loaded.config, tokens, bfloat16=False), range(64))
    assert np.abs(got - expected).max() / expected.std() < 2e-5
    plain = load_model(random_llama(tmp_path / "plain.gguf", seed=2))
    other = plain.model.step(tokens, range(64), Attention(plain.config, tokens, bfloat16=False), range(64))
    assert np.abs(got - other).max() / expected.std() > 0.1


def test_float_weights_agree_to_float32_where_nothing_is_rounded(tmp_path):
    path = random_llama(tmp_path / "tiny.gguf", seed=2, format="f32", layers=3)
    loaded = load_model(path)
    tokens = np.random.default_rng(6).integers(0, loaded.config.vocabulary, 64)
    reference = Llama.from_gguf(path, kv_bfloat16=False)
    (expected,) = reference.forward([(reference.cache(), tokens)])
    rows = list(range(len(tokens)))
    got = loaded.model.step(tokens, rows, Attention(loaded.config, tokens, bfloat16=False), rows)
    assert np.abs(got - expected).max() / expected.std() < 2e-5


def test_channels_reach_attention_in_hf_order(tmp_path):
    """The reference rotates the file's interleaved pairs; attention sees halves."""
    path = random_llama(tmp_path / "tiny.gguf", seed=3, layers=1)
    loaded, reference = load_model(path), Llama.from_gguf(path, kv_bfloat16=False)
    seen = {}

    def attend(layer, q, k, v):
        seen["k"] = k
        return np.zeros_like(q)

    loaded.model.step([7, 8, 9], [0, 1, 2], attend, [])
    cache = reference.cache()
    reference.forward([(cache, [7, 8, 9])])
    pairs = cache.keys[0]
    np.testing.assert_allclose(seen["k"], np.concatenate([pairs[..., 0::2], pairs[..., 1::2]], -1), atol=2e-6)


def test_step_refuses_what_does_not_fit(tmp_path):
    model = load_model(random_llama(tmp_path / "tiny.gguf")).model
    zeros = lambda layer, q, k, v: np.zeros_like(q)  # noqa: E731
    with pytest.raises(vx.UserError, match=r"\[step\] a position for each of the 2 tokens; got 1"):
        model.step([1, 2], [0], zeros, [0])
    with pytest.raises(vx.UserError, match=r"\[step\] token ids below \d+; got 9999"):
        model.step([9999], [0], zeros, [0])
    with pytest.raises(vx.UserError, match=r"\[step\] logit_tokens below 1; got 1"):
        model.step([1], [0], zeros, [1])
    with pytest.raises(vx.UserError, match=r"\[attend\] a float32 array \[1, 4, 32\].*; got NoneType"):
        model.step([1], [0], lambda *_: None, [0])
    with pytest.raises(ZeroDivisionError):
        model.step([1], [0], lambda *_: 1 / 0, [0])


def test_weights_outlive_the_caller(tmp_path):
    model = load_model(random_llama(tmp_path / "tiny.gguf", format="q8_0")).model
    gc.collect()
    zeros = lambda layer, q, k, v: np.zeros_like(q)  # noqa: E731
    first = model.step([5], [0], zeros, [0])
    junk = [np.full(10_000, 7.0) for _ in range(50)]
    assert np.array_equal(first, model.step([5], [0], zeros, [0])) and len(junk) == 50


def test_raw_weights_must_fit_their_format():
    config = _core.ModelConfig()
    for name, value in SIZES.items():
        setattr(config, name, value)
    config.architecture, config.vocabulary, name = "llama", 1, "model.embed_tokens.weight"
    with pytest.raises(vx.UserError, match=r"\[weight format\] one of f32, f16, bf16, q8_0, q4_0, .*, q6_k; got q2_k"):
        _core.make_model(config, {name: ("q2_k", np.zeros((1, 68), np.uint8), 64)})
    with pytest.raises(
        vx.UserError, match=rf"\[weight {name}\] 68 bytes a row of 64 weights in q8_0; got an array \[1, 69\]"
    ):
        _core.make_model(config, {name: ("q8_0", np.zeros((1, 69), np.uint8), 64)})


def test_weights_are_asked_for_one_at_a_time_and_let_go(tmp_path):
    """The model is never in memory twice: a linear's array goes once it is packed, the embedding's stays."""
    from vortex_attention.models import open_source
    from vortex_attention.models.weights import Weights

    source = open_source(random_llama(tmp_path / "tiny.gguf", seed=4))
    alive: dict[str, weakref.ref] = {}
    most = 0

    class Counted(Weights):
        def __getitem__(self, name):
            nonlocal most
            format, rows, columns = super().__getitem__(name)
            rows = rows.copy()
            alive[name] = weakref.ref(rows)
            most = max(most, sum(ref() is not None for ref in alive.values()))
            return format, rows, columns

    model = _core.make_model(source.config, Counted(source.weights()), 2)
    gc.collect()
    assert most <= 4  # q, k and v, which are one matrix, and the embedding
    assert [name for name, ref in alive.items() if ref() is not None] == ["model.embed_tokens.weight"]
    del model
    gc.collect()
    assert all(ref() is None for ref in alive.values())


def test_what_a_weight_raises_is_what_comes_out(tmp_path):
    from vortex_attention.models import open_source
    from vortex_attention.models.weights import Weights

    source = open_source(random_llama(tmp_path / "tiny.gguf"))

    class Broken(Weights):
        def __getitem__(self, name):
            if "layers.1." in name:
                raise vx.MachineError(name, "a disk that reads")
            return super().__getitem__(name)

    with pytest.raises(vx.MachineError, match=r"^\[model.layers.1.*\] a disk that reads$"):
        _core.make_model(source.config, Broken(source.weights()), 2)


def refusal(path) -> str:
    with pytest.raises(vx.VortexError) as caught:
        load_model(path)
    assert isinstance(caught.value, vx.UserError), caught.value
    return str(caught.value)


def test_a_name_that_is_not_known(tmp_path):
    assert refusal("smolm2").endswith("got 'smolm2'; did you mean smollm2?")
    assert refusal("qwerty").endswith("got 'qwerty'; check the name")


def test_files_that_are_not_there_or_not_gguf(tmp_path):
    assert (
        refusal(tmp_path / "no.gguf")
        == f"[no.gguf] a model file; there is none at {tmp_path / 'no.gguf'}; check the path"
    )
    assert refusal(tmp_path).endswith(
        "a folder with a config.json; it has none; give the folder of a model, or the path of a .gguf file"
    )
    (tmp_path / "some.gguf").write_bytes(b"")
    assert refusal(tmp_path).endswith("a folder with a config.json; it has none; give the path of some.gguf in it")
    short = tmp_path / "short.gguf"
    short.write_bytes(b"GGUF")
    assert refusal(short) == "[short.gguf] a GGUF model file; it has fewer than 24 bytes; fetch it again"
    zipped = tmp_path / "zip.gguf"
    zipped.write_bytes(b"PK\3\4" + bytes(100))
    assert refusal(zipped).startswith(
        "[zip.gguf] a GGUF file, which starts with the bytes 'GGUF'; it starts with b'PK\\x03\\x04'"
    )
    old = tmp_path / "old.gguf"
    old.write_bytes(b"GGUF" + (1).to_bytes(4, "little") + bytes(100))
    assert "of version 2 or 3; got version 1" in refusal(old)
    old.write_bytes(b"GGUF" + (3).to_bytes(4, "big") + bytes(100))
    assert "it is big-endian" in refusal(old)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    whole = random_llama(tmp_path / "tiny.gguf", format="q8_0").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [*range(24, 1200, 97), *range(1200, len(whole), len(whole) // 40), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        assert refusal(cut).endswith("the file is damaged or incomplete, fetch it again"), length


def test_hostile_sizes_end_at_once(tmp_path):
    huge = (2**61).to_bytes(8, "little")
    head = b"GGUF" + (3).to_bytes(4, "little")
    text = lambda s: len(s).to_bytes(8, "little") + s  # noqa: E731
    one, none = (1).to_bytes(8, "little"), bytes(8)
    number = lambda n: n.to_bytes(4, "little")  # noqa: E731
    file = tmp_path / "hostile.gguf"
    for name, content in {
        "tensors": head + huge + none + bytes(64),
        "metadata values": head + none + huge + bytes(64),
        "letters of a text": head + none + one + huge + bytes(64),
        "items of a": head + none + one + text(b"a") + number(9) + number(4) + huge + bytes(64),
        "texts of a": head + none + one + text(b"a") + number(9) + number(8) + huge + bytes(64),
        "a known kind of value": head + none + one + text(b"a") + number(99) + bytes(64),
        "an array of numbers or texts": head + none + one + text(b"a") + number(9) + number(9) + one + bytes(64),
        "names and texts in UTF-8": head + none + one + text(b"\xff\xfe") + number(4) + bytes(64),
        "1 to 4 dimensions": head + one + none + text(b"t") + number(2**31) + bytes(64),
        "positive dimensions": head + one + none + text(b"t") + number(1) + none + number(0) + none + bytes(64),
        "bytes of the tensor t": head
        + one
        + none
        + text(b"t")
        + number(2)
        + huge
        + huge
        + number(0)
        + none
        + bytes(64),
        "twice": head + none + (2).to_bytes(8, "little") + (text(b"a") + number(4) + number(1)) * 2 + bytes(64),
    }.items():
        file.write_bytes(content)
        assert name in refusal(file), name


def test_damage_anywhere_is_refused_or_harmless(tmp_path):
    """Random bytes in the header: a refusal in our words, or a file that still loads."""
    whole = random_llama(tmp_path / "tiny.gguf").read_bytes()
    header = whole.index(b"token_embd.weight") + 2000
    rng = np.random.default_rng(1)
    file, refused = tmp_path / "damaged.gguf", 0
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(4, header, rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            load_model(file)
        except vx.UserError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda w: w.add_uint32("llama.expert_count", 8),
            "llama.expert_count = 0; got 8; this variant is not implemented",
        ),
        (lambda w: w.add_rope_dimension_count(16), "llama.rope.dimension_count = 32; got 16"),
        (
            lambda w: w.add_string("llama.rope.scaling.type", "longrope"),
            "rope.scaling.type to be one of none, linear, yarn; got longrope",
        ),
        (
            lambda w: (
                w.add_string("llama.rope.scaling.type", "linear"),
                w.add_float32("llama.rope.scaling.factor", 0.0),
            ),
            "rope.scaling.factor of RoPE above 0 and below 1e12; got 0.0",
        ),
        (
            lambda w: w.add_tensor("rope_freqs.weight", np.ones(15, np.float32)),
            "rope_freqs.weight to be 16 numbers in f32, beside no other scaling of RoPE; got [1, 15] in f32",
        ),
    ],
)
def test_variants_that_would_change_results_are_refused(tmp_path, change, words):
    assert words in refusal(random_llama(tmp_path / "variant.gguf", change=change))


def test_metadata_that_is_wrong(tmp_path):
    def with_key(**keys):
        def change(writer):
            for key, value in keys.items():
                writer.kv_data[0].pop(key.replace("__", "."), None)
                if value is not None:
                    writer.add_key_value(key.replace("__", "."), *value)

        return random_llama(tmp_path / "meta.gguf", change=change)

    import gguf

    text, number, real = gguf.GGUFValueType.STRING, gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32
    assert "the metadata llama.block_count; the file has none" in refusal(with_key(llama__block_count=None))
    assert "llama.block_count to be an integer; got a text" in refusal(with_key(llama__block_count=("two", text)))
    assert "llama.block_count to be an integer; got a number" in refusal(with_key(llama__block_count=(2.0, real)))
    assert "layers from 1 to 4096; got layers = 0" in refusal(with_key(llama__block_count=(0, number)))
    assert "of shape [1, 64]; no such weight" in refusal(with_key(llama__block_count=(3, number)))
    assert "kv_heads that divides heads; got kv_heads = 3" in refusal(
        with_key(llama__attention__head_count_kv=(3, number))
    )
    wrong = refusal(with_key(general__architecture=("lama", text)))
    assert (
        wrong == "[meta.gguf] one of the architectures llama, qwen2, qwen3, qwen3moe; got 'lama'; did you mean llama?"
    )
    assert "gpt2 (byte-level BPE), llama (SentencePiece BPE); got tokenizer.ggml.model = bert" in refusal(
        with_key(tokenizer__ggml__model=("bert", text))
    )
    assert "the metadata tokenizer.ggml.scores; the file has none" in refusal(
        with_key(tokenizer__ggml__model=("llama", text))
    )
    assert "one of the pre-tokenizers gpt-2, smollm, qwen2, llama-bpe; got tokenizer.ggml.pre = q" in refusal(
        with_key(tokenizer__ggml__pre=("q", text))
    )
    assert "tokenizer.ggml.eos_token_id below 268; got 268" in refusal(
        with_key(tokenizer__ggml__eos_token_id=(268, number))
    )
    assert "a Jinja chat template; " in refusal(with_key(tokenizer__chat_template=("{% for", text)))


@pytest.mark.parametrize(
    "tensor", ["token_embd.weight", "output_norm.weight", "blk.1.attn_k.weight", "blk.0.ffn_norm.weight"]
)
def test_missing_tensors_are_named(tmp_path, tensor):
    from vortex_attention.models.gguf_source import hf_name

    words = refusal(random_llama(tmp_path / "missing.gguf", without=tensor))
    assert tensor in words or f"the weight {hf_name(tensor)} of shape" in words


def test_tensor_types_and_tensors_that_are_not_known(tmp_path):
    import gguf

    def k_quant(writer):
        writer.add_tensor("blk.0.extra.weight", np.zeros((2, 84), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q2_K)

    words = refusal(random_llama(tmp_path / "k.gguf", change=k_quant))
    assert (
        "tensors in one of f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k; blk.0.extra.weight is in Q2_K; convert"
        in words
    )

    def unknown(writer):
        writer.add_tensor("rope_factors.weight", np.ones(16, np.float32))

    assert "got 1 that it does not: rope_factors.weight" in refusal(random_llama(tmp_path / "u.gguf", change=unknown))
    words = refusal(
        random_llama(
            tmp_path / "s.gguf",
            ffn_width=128,
            change=lambda w: w.kv_data[0].pop("llama.feed_forward_length") and w.add_feed_forward_length(96),
        )
    )
    assert (
        "mlp.down_proj.weight of shape [64, 96]; got shape [64, 128]" in words
        or "mlp.gate_proj.weight of shape [96, 64]; got shape [128, 64]" in words
    )
