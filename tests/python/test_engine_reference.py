"""What the engine writes, token by token, against the float64 reference: full attention and page-sparse decode."""

import numpy as np
import pytest
from reference.llama import Llama, round_to_bfloat16
from reference.random_model import random_llama
from vortex_attention.engine import Generator, Sampling

PAGE, BUDGET, SINKS, RECENT = 16, 7, 1, 2
STEPS = 24


def softmax_over_pages(logits):  # [head, page]
    share = np.exp(logits - logits.max(-1, keepdims=True))
    return (share / share.sum(-1, keepdims=True)).sum(0)


def centroid(q, pages):  # q [head, dim], pages [page, token, dim]
    return softmax_over_pages(q @ round_to_bfloat16(pages.mean(1)).T)


def quest(q, pages):
    low, high = pages.min(1), pages.max(1)
    return softmax_over_pages(np.maximum(q[:, None] * low, q[:, None] * high).sum(-1))


def recent_only(q, pages):
    return np.arange(len(pages), dtype=float)


def chooser(score, log):
    """Pages as the language defines them: sinks, recent ones (the open page is one), and the best full pages
    between."""

    def choose(layer, kv_head, q, keys):
        pages = -(-len(keys) // PAGE)
        pinned = set(range(SINKS)) | set(range(pages - RECENT, pages))
        candidates = [page for page in range(pages) if page not in pinned]
        scores = score(q, keys[: len(keys) // PAGE * PAGE].reshape(-1, PAGE, keys.shape[1])[candidates])
        best = np.argsort(-scores, kind="stable")[: BUDGET - len(pinned)]
        log.append(len(candidates) - len(best))
        return sorted(pinned | {candidates[i] for i in best})

    return choose


def reference_text(path, prompt, choose=None):
    """Greedy tokens, their log-probabilities and the gaps to the second best; prefill is dense."""
    model = Llama.from_gguf(path)
    cache, tokens, logprobs, gaps = model.cache(), [], [], []
    (logits,) = model.forward([(cache, prompt)], last_only=True)
    for _ in range(STEPS):
        second, first = np.sort(logits[0])[-2:]
        tokens.append(int(logits[0].argmax()))
        logprobs.append(first - np.log(np.exp(logits[0]).sum()))
        gaps.append(first - second)
        (logits,) = model.forward([(cache, tokens[-1:])], choose, PAGE)
    return tokens, logprobs, gaps


@pytest.mark.parametrize("flow", [None, centroid, quest, recent_only])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_greedy_text_is_the_references(tmp_path, architecture, flow):
    path = random_llama(tmp_path / "tiny.gguf", architecture=architecture, seed=8, layers=3)
    prompt = [int(token) for token in np.random.default_rng(4).integers(3, 268, 300)]
    left_out: list[int] = []
    choose = chooser(flow, left_out) if flow else None
    tokens, logprobs, gaps = reference_text(path, prompt, choose)
    settings = {"budget": str(BUDGET), "sinks": str(SINKS), "recent": str(RECENT), "page_size": str(PAGE)}
    generator = Generator(
        str(path),
        flow=flow.__name__ if flow else None,
        overrides=settings if flow else None,
        memory_bytes=16 << 20,
        threads=2,
    )
    generator.stop_tokens = []
    for piece in generator.stream([prompt], Sampling(max_tokens=STEPS)):
        answer = piece.answer
    print(
        f"smallest gap {min(gaps):.4f}, log-probabilities differ by {np.abs(np.array(answer.logprobs) - logprobs).max():.1e}"
    )
    assert answer.tokens == tokens
    np.testing.assert_allclose(answer.logprobs, logprobs, atol=0.005)
    if flow:
        assert min(left_out) > 0, "the budget must leave pages out"
        assert not np.allclose(logprobs, reference_text(path, prompt)[1], atol=0.01), "and full attention must differ"
