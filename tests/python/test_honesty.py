"""Ways to cheat a measurement, or to err in one, each caught or made harmless. What other files hold: stale speeds and changed
checkouts (test_ledger), answers cached between runs (suites/test_runner: reuse is marked, --fresh measures), equal answers to few
items (test_decisions), suites that random pages pass (suites/test_tables)."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from reference.learned import ready
from reference.random_model import random_llama
from vortex_attention import _core, flows
from vortex_attention.bench.decode import bench_decode, check_pages, time_block
from vortex_attention.cli import experiment, measure
from vortex_attention.errors import InternalError, UserError
from vortex_attention.models import load_model

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return random_llama(tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048)


@pytest.fixture(scope="module")
def loaded(path):
    return load_model(path, threads=1)


@pytest.fixture
def bench(loaded):
    return _core.Workbench(loaded.model, page_size=16, pages=512, max_batch=8, threads=1)


MODEL = SimpleNamespace(
    device="cpu", weight_bytes=0, config=SimpleNamespace(vocabulary=8, layers=2, attention=SimpleNamespace(kv_heads=2))
)


class Fake:
    """A workbench whose time and counts are ours. first, later: seconds of a fork's first decode and of the others."""

    def __init__(self, first=0.0, later=0.0, setting_up=0.0, claimed=0.0, lost_steps=0, fails_at=None, tokens=40.0):
        self.first, self.later, self.setting_up, self.claimed = first, later, setting_up, claimed
        self.lost_steps, self.fails_at, self.tokens = lost_steps, fails_at, tokens
        self.fed, self.held, self.decodes = [], 0, 0
        self.reset_statistics()

    def fill(self, context, seed):
        time.sleep(self.setting_up)
        self.held += 1
        return seed

    def fork(self, sequence, flow):
        time.sleep(self.setting_up)
        self.held += 1
        self.fresh, self.flow = True, flow
        self.fed.append((flow, []))
        return sequence

    def release(self, sequence):
        self.held -= 1

    def reset_statistics(self):
        self.statistics = SimpleNamespace(steps=-self.lost_steps, tokens=0, seconds=0.0, kv_bytes=0, summary_bytes=0, attended_tokens=0.0,
                                          **{f"{part}_seconds": 0.0 for part in ("score", "select", "attend", "append", "summarize", "other")})  # fmt: skip

    def decode(self, sequences, tokens):
        self.decodes += 1
        if self.decodes == self.fails_at:
            raise RuntimeError("a request failed")
        time.sleep(self.first if self.fresh else self.later)
        self.fresh = False
        self.fed[-1][1].append(tuple(tokens))
        counted = self.statistics
        counted.steps, counted.tokens = counted.steps + 1, counted.tokens + len(sequences)
        counted.seconds += self.claimed
        counted.attended_tokens += self.tokens * len(sequences) * 4
        return np.zeros((len(sequences), 8), dtype=np.float32)


def test_neither_prefill_nor_forking_nor_warm_up_is_counted():
    fake = Fake(first=0.05, later=0.001, setting_up=0.02)
    block = time_block(fake, MODEL, [1, 2], 0, 4, seed=0)
    assert block.seconds < 0.01


def test_a_clock_that_stops_before_the_device_is_caught():
    """The engine says its steps took 30 ms; the clock saw none of it."""
    with pytest.raises(
        InternalError,
        match=r"\[bench\] a clock that runs until the engine has finished; .* ms for steps that took the engine 120.00; report",
    ):
        time_block(Fake(claimed=0.03), MODEL, [1], 0, 4, seed=0)


def test_steps_that_were_not_made_are_caught():
    with pytest.raises(
        InternalError, match=r"\[bench\] 4 steps of 1 tokens in a block; the engine counted 3 steps, 4 tokens"
    ):
        time_block(Fake(lost_steps=1), MODEL, [1], 0, 4, seed=0)


def test_a_request_that_fails_ends_the_run_and_is_not_dropped():
    fake = Fake(fails_at=7)
    with pytest.raises(RuntimeError, match="a request failed"):
        bench_decode(
            fake,
            MODEL,
            {"quest": (0, 1e9)},
            batch=2,
            context=64,
            rounds=2,
            steps=2,
            progress=lambda: None,
            filled=lambda _: None,
        )
    assert fake.held == 0


def test_all_arms_decode_the_same_tokens_for_as_many_steps():
    fake = Fake()
    bench_decode(
        fake,
        MODEL,
        {"quest": (0, 1e9), "other": (1, 1e9)},
        batch=2,
        context=64,
        rounds=2,
        steps=3,
        progress=lambda: None,
        filled=lambda _: None,
    )
    blocks = [fed for _, fed in fake.fed if fed]  # a block's tokens stand under its last fork
    assert len(blocks) == 2 * 2 * 4 and {len(block) for block in blocks} == {1 + 3}
    for round_ in (0, 1):
        begin = 8 * round_
        assert all(block == blocks[begin] for block in blocks[begin : begin + 8])


def test_more_pages_than_the_budget_are_an_error():
    block = SimpleNamespace(attended_tokens=41.0 * 8)
    with pytest.raises(
        InternalError,
        match=r"\[bench\] quest attends at most 40 tokens a row; the engine counted 41.0; report this as a defect",
    ):
        check_pages(MODEL, "quest", block, 2, 40.0)
    with pytest.raises(InternalError, match="quest attends at most 40 tokens"):
        bench_decode(
            Fake(tokens=41.0),
            MODEL,
            {"quest": (0, 40.0)},
            batch=2,
            context=64,
            rounds=1,
            steps=2,
            progress=lambda: None,
            filled=lambda _: None,
        )


OWN_SETS = {"streaming", "top_p", "two_streams"}  # how much they read follows from the scores, or is their own number


@pytest.mark.parametrize("name", [name for name in flows.names() if name not in OWN_SETS])
def test_no_layer_that_is_called_sparse_reads_everything(loaded, bench, name):
    """Every row of every layer keeps its own budget: a mean over layers could hide one that reads all."""
    program = ready(name, loaded.config.attention.head_dim).with_settings({"budget": "6", "page_size": "16"})
    base = bench.prefill([int(t) for t in np.random.default_rng(1).integers(0, 256, 400)])
    arm = bench.fork(base, bench.load_flow(program))
    bench.record_pages(True)
    for step in range(3):
        bench.decode([arm], [5])
        for layer in range(loaded.config.layers):
            allowed = program.rows(
                401 + step, step=step, layer=layer, layers=loaded.config.layers, scale=loaded.config.attention.scale
            )
            assert allowed["attended"] < allowed["pages"]
            for head in range(loaded.config.attention.kv_heads):
                assert len(bench.page_list(arm, layer, head)) <= allowed["attended"]


def test_full_attention_never_reads_what_a_flow_made(loaded, bench):
    base = bench.prefill(list(range(100)))
    arm = bench.fork(base, bench.load_flow(flows.ready("centroid").with_settings({"budget": "4", "page_size": "16"})))
    bench.decode([arm], [5])
    with pytest.raises(
        UserError,
        match=r"\[workbench\] a fork under flow \d+, which made KV of sequence \d+; full attention; fork before the first decode",
    ):
        bench.fork(arm, -1)
    with pytest.raises(UserError, match="a sequence that was prefilled"):
        bench.save(arm)


def test_filled_contexts_are_neither_zero_nor_repeated(bench):
    """K and V of a speed run: every page of every sequence holds something of its own."""
    saved = [np.frombuffer(bench.save(bench.fill(256, seed)), dtype=np.uint16) for seed in (1, 2)]
    pages = np.concatenate([part.reshape(2, 16, -1) for part in saved], axis=1).reshape(
        64, -1
    )  # [layers · pages, values]
    assert len({page.tobytes() for page in pages}) == 64
    for page in pages:
        assert (page & 0x7FFF != 0).mean() > 0.99 and len(np.unique(page)) > 100


LENGTHS = """
import vortex_attention as vx
class Lengths(vx.vFlow):
    \"\"\"Reads everything where accuracy is measured and next to nothing where speed is.\"\"\"
    page_size = 16
    def summarize(self, page):
        page.c = page.k.mean("token")
    def score(self, q, page):
        return vx.dot(q, page.c, over="dim").sum("head")
    def budget(self, seq):
        return vx.where(seq.tokens > 600, 4.0, 1000.0)
"""


def test_a_flow_that_knows_the_lengths_gains_nothing_unseen(path, tmp_path, monkeypatch):
    """Its pages are counted in both measurements, so the table of the accuracy shows that it read everything there."""
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measure, "natural_text", lambda: TEXT)
    (tmp_path / "lengths.py").write_text(LENGTHS)
    flow = str(tmp_path / "lengths.py")
    accuracy = measure.accuracy(measure.Wanted(suite="text", flows=(flow,), model=str(path), threads=1, options={"items": 2, "length": 400, "steps": 16}),
                                lambda *_: None)  # fmt: skip
    full, cheat = accuracy["arms"][:2]
    assert cheat["attended_tokens"] == full["attended_tokens"]
    wanted = experiment.Settings(
        model=str(path), flows=(flow,), items=0, batch=2, contexts=(800,), rounds=1, steps=2, threads=1
    )
    speed = experiment.Experiment(wanted, lambda *_: None).run(with_accuracy=False)["speed"][0]["arms"][1]
    assert speed["attended_tokens"] / (2 * 2 * 2) <= 4 * 16
