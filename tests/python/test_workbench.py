"""The workbench from Python: full and sparse decode against the float64 reference, exceptions, and threads."""

import threading

import numpy as np
import pytest
import vortex_attention as vx
from reference.learned import ready
from reference.llama import Llama, round_to_bfloat16
from reference.random_model import random_llama
from vortex_attention import _core, flows
from vortex_attention.models import load_model

PROMPT, STEPS = 300, 12


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("workbench") / "tiny.gguf", seed=3)


@pytest.fixture(scope="module")
def loaded(path):
    return load_model(path, threads=1)


@pytest.fixture
def bench(loaded):
    return _core.Workbench(loaded.model, page_size=4, pages=1024, max_batch=8, threads=2)


def tokens_of(loaded, count, seed):
    return [int(t) for t in np.random.default_rng(seed).integers(0, loaded.config.vocabulary, count)]


def test_full_attention_agrees_with_the_reference(path, loaded, bench):
    prompt, forced = tokens_of(loaded, PROMPT, 1), tokens_of(loaded, STEPS, 2)
    sequence, first = bench.prefill_with_logits(prompt)
    got = [first] + [bench.decode([sequence], [token])[0] for token in forced]
    reference = Llama.from_gguf(path)
    (expected,) = reference.forward([(reference.cache(), prompt + forced)])
    expected = expected[PROMPT - 1 :]
    assert first.dtype == np.float32 and first.shape == (loaded.config.vocabulary,)
    assert np.abs(np.stack(got) - expected).max() / expected.std() < 0.01
    assert bench.length(sequence) == PROMPT + STEPS
    bench.check_integrity()


def test_random_pages_differ_by_row_layer_and_step_and_are_a_function_of_the_request(loaded, bench):
    flow = bench.load_flow(flows.ready("random_pages").with_settings({"budget": "12", "page_size": "4"}))
    bases = [bench.prefill(tokens_of(loaded, PROMPT, seed)) for seed in (1, 2)]
    bench.record_pages(True)

    def draw(sequences, tokens):
        """The page lists [step][sequence][layer][head] of two steps."""
        arms = [bench.fork(sequence, flow) for sequence in sequences]
        steps = []
        for _ in range(2):
            bench.decode(arms, tokens)
            layers, heads = range(loaded.config.layers), range(loaded.config.kv_heads)
            steps.append([[[tuple(bench.page_list(arm, i, j)) for j in heads] for i in layers] for arm in arms])
        for arm in arms:
            bench.release(arm)
        return steps

    together = draw(bases, [5, 9])
    lists = [pages for step in together for sequence in step for layer in sequence for pages in layer]
    assert len(set(lists)) == len(lists) and all(len(pages) == 12 for pages in lists)
    assert together == draw(bases, [5, 9])
    assert [[step[1]] for step in together] == draw(bases[1:], [9])


def centroid_scores(q, k, candidates, page_size):
    """Shares of the mean keys over the candidates, summed over the group, in float64 from summaries as they are stored."""
    means = round_to_bfloat16(np.stack([k[p * page_size : (p + 1) * page_size].mean(0) for p in candidates]))
    logits = q @ means.T
    share = np.exp(logits - logits.max(-1, keepdims=True))
    return (share / share.sum(-1, keepdims=True)).sum(0)


@pytest.mark.parametrize("page_size", [4, 16])
def test_sparse_decode_agrees_with_the_reference(path, loaded, bench, page_size):
    """The reference attends the pages that the engine chose, and its own scores say that the choice was right."""
    budget, sinks, recent = 10, 1, 2
    settings = {"budget": budget, "page_size": page_size, "sinks": sinks, "recent": recent}
    flow = bench.load_flow(
        flows.ready("centroid").with_settings({name: str(value) for name, value in settings.items()})
    )
    prompt, forced = tokens_of(loaded, PROMPT, 1), tokens_of(loaded, STEPS, 2)
    sequence = bench.fork(bench.prefill(prompt), flow)
    bench.record_pages(True)
    reference = Llama.from_gguf(path)
    cache = reference.cache()
    reference.forward([(cache, prompt)])
    worst = 0.0

    def choose(layer, kv_head, q, k):
        nonlocal worst
        pages = -(-len(k) // page_size)
        chosen = bench.page_list(sequence, layer, kv_head)
        assert len(chosen) == budget and chosen == sorted(set(chosen))
        assert {0, pages - 2, pages - 1} <= set(chosen)
        candidates = np.arange(sinks, pages - recent)
        scores = centroid_scores(q, k, candidates, page_size)
        inside = np.isin(candidates, chosen)
        worst = max(worst, (scores[~inside].max() - scores[inside].min()) / scores.max())
        return chosen

    for token in forced:
        got = bench.decode([sequence], [token])[0]
        (expected,) = reference.forward([(cache, [token])], choose, page_size)
        assert np.abs(got - expected[0]).max() / expected.std() < 0.01
    assert worst < 0.01, "a page was left out that scores higher than one that was chosen"


def test_a_covering_budget_is_full_attention_bit_for_bit(loaded, bench):
    prompt, forced = tokens_of(loaded, PROMPT, 1), tokens_of(loaded, STEPS, 2)
    base = bench.prefill(prompt)
    for name in flows.names():
        flow = bench.load_flow(
            ready(name, loaded.config.attention.head_dim).with_settings({"budget": "100000", "page_size": "16"})
        )
        arms = [bench.fork(base, -1), bench.fork(base, flow)]
        for token in forced:
            logits = bench.decode(arms, [token, token])
            assert np.array_equal(logits[0], logits[1]), name
        for arm in arms:
            bench.release(arm)
        bench.unload_flow(flow)


def test_every_ready_flow_decodes_the_same_in_a_batch_and_alone(loaded, bench):
    prompts = [tokens_of(loaded, count, count) for count in (90, 300, 411)]
    bases = [bench.prefill(prompt) for prompt in prompts]
    for name in flows.names():
        flow = bench.load_flow(
            ready(name, loaded.config.attention.head_dim).with_settings({"budget": "8", "page_size": "16"})
        )
        arms = [bench.fork(base, flow) for base in bases]
        together = bench.decode(arms, [5, 6, 7])
        for base, token, logits in zip(bases, [5, 6, 7], together):
            assert np.array_equal(bench.decode([bench.fork(base, flow)], [token])[0], logits), name


def test_statistics_add_up(loaded, bench):
    flow = bench.load_flow(flows.ready("quest").with_settings({"budget": "8", "page_size": "4"}))
    base = bench.prefill(tokens_of(loaded, PROMPT, 1))
    arm = bench.fork(base, flow)
    bench.decode([arm], [1])
    bench.reset_statistics()
    bench.greedy([arm], [1], 4)
    seen = bench.statistics
    parts = [seen.append_seconds, seen.summarize_seconds, seen.score_seconds, seen.select_seconds, seen.attend_seconds]
    assert seen.steps == 4 and seen.tokens == 4
    assert seen.rows == seen.sparse_rows == 4 * 2 * 2
    assert seen.attended_pages == 8 * seen.rows
    assert seen.kv_bytes == seen.attended_tokens * 2 * 32 * 2
    assert all(part >= 0 for part in parts) and sum(parts) + seen.other_seconds == pytest.approx(seen.seconds)
    assert bench.kv_bytes == 1024 * 2 * 2 * 2 * 4 * 32 * 2
    assert bench.summary_bytes > 0


def test_integer_kv_costs_half_the_bytes_and_little_else(path, loaded):
    prompt, forced = tokens_of(loaded, PROMPT, 1), tokens_of(loaded, STEPS, 2)
    arms = {}
    for kv_dtype in ("bf16", "int8"):
        bench = _core.Workbench(loaded.model, page_size=4, pages=256, max_batch=4, threads=2, kv_dtype=kv_dtype)
        sequence, first = bench.prefill_with_logits(prompt)
        logits = [first] + [bench.decode([sequence], [token])[0] for token in forced]
        flow = bench.load_flow(flows.ready("quest").with_settings({"budget": "1000", "page_size": "16"}))
        covered = bench.fork(sequence, flow)
        assert np.array_equal(bench.decode([covered], [5]), bench.decode([bench.fork(sequence, -1)], [5]))
        arms[kv_dtype] = np.stack(logits), bench.kv_bytes
    reference = Llama.from_gguf(path)
    (expected,) = reference.forward([(reference.cache(), prompt + forced)])
    expected = expected[PROMPT - 1 :]
    for kv_dtype, bound in (("bf16", 0.01), ("int8", 0.08)):
        error = np.abs(arms[kv_dtype][0] - expected).max() / expected.std()
        print(f"{kv_dtype}: largest difference {error:.2g} deviations")
        assert error < bound
    assert not np.array_equal(arms["bf16"][0], arms["int8"][0])
    # 32 channels of K and of V a token and KV head: 2 bytes each, or 1 and a scale.
    assert arms["bf16"][1] / arms["int8"][1] == 128 / 72
    with pytest.raises(vx.UserError, match=r'\[kv_dtype\] one of bf16, int8, fp8; got "int4"; did you mean int8\?'):
        _core.Workbench(loaded.model, kv_dtype="int4")
    words = r"\[engine\] kv_dtype bf16 or int8 on the cpu; fp8; store K and V as int8, which takes as many bytes, or run on a device"
    with pytest.raises(vx.UserError, match=words):
        _core.Workbench(loaded.model, kv_dtype="fp8")


def test_integer_kv_does_not_depend_on_chunks(loaded):
    prompt, forced = tokens_of(loaded, PROMPT, 1), tokens_of(loaded, STEPS, 2)
    seen = []
    for chunk in (7, 64, 512):
        bench = _core.Workbench(loaded.model, page_size=16, pages=64, chunk_tokens=chunk, threads=2, kv_dtype="int8")
        sequence, first = bench.prefill_with_logits(prompt)
        seen.append(np.stack([first] + [bench.decode([sequence], [token])[0] for token in forced]))
    assert np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])


def test_errors_cross_as_exceptions(loaded, bench):
    with pytest.raises(vx.UserError, match=r"\[workbench\] 1 to 512 tokens in a sequence; 0;"):
        bench.prefill([])
    with pytest.raises(vx.UserError, match=r"the id of a loaded flow, or -1 for full attention; 7;"):
        bench.fork(bench.prefill([1, 2]), 7)
    with pytest.raises(vx.UserError, match=r"a page_size that is a multiple of the engine's, 4; 2;"):
        bench.load_flow(flows.ready("quest").with_settings({"page_size": "2"}))
    with pytest.raises(vx.MachineError, match=r"lower `pages` or raise memory_bytes"):
        _core.Workbench(loaded.model, pages=1000, memory_bytes=1000).fill(10)
    with pytest.raises(TypeError):
        _core.Workbench(loaded.model, page_sise=4)


def test_threads_take_turns(loaded, bench):
    base = bench.prefill(tokens_of(loaded, 50, 1))
    (expected,) = bench.decode([bench.fork(base)], [3])
    arms, got = [bench.fork(base) for _ in range(8)], {}

    def work(arm):
        got[arm] = bench.decode([arm], [3])[0]

    workers = [threading.Thread(target=work, args=(arm,)) for arm in arms]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.array_equal(got[arm], expected) for arm in arms)
    bench.check_integrity()
