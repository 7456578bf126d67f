"""Snapshots: made once, damaged ones noticed, the oldest make room."""

import numpy as np
import pytest
from vortex_attention.eval import bed as beds
from vortex_attention.eval.snapshots import Snapshots
from vortex_attention.eval.suite import Item


@pytest.fixture
def bench(model):
    bed = beds.Bed(str(model), beds.load_flows(["centroid@5"], {}, ()), threads=2)
    bed.prepare([Item("a", tuple(range(300)), 4)])
    return bed.bench


TOKENS = [int(t) for t in np.random.default_rng(2).integers(0, 256, 200)]


def kept(bench, snapshots, tokens=TOKENS, numerics="1"):
    sequence = snapshots.sequence(bench, tokens, model_sha256="m", numerics=numerics)
    saved = bench.save(sequence)
    bench.release(sequence)
    return saved


def test_an_item_is_prefilled_once(bench, tmp_path):
    said = []
    snapshots = Snapshots(tmp_path / "s", 1 << 30, said.append)
    first = kept(bench, snapshots)
    assert kept(bench, snapshots) == first
    assert (snapshots.made, snapshots.taken, said) == (1, 1, [])
    kept(bench, snapshots, TOKENS[:-1])
    kept(bench, snapshots, numerics="2")
    assert (snapshots.made, snapshots.taken) == (3, 1)
    bench.check_integrity()


def test_damaged_snapshots_are_noticed_and_made_again(bench, tmp_path):
    said = []
    snapshots = Snapshots(tmp_path / "s", 1 << 30, said.append)
    first = kept(bench, snapshots)
    (path,) = (tmp_path / "s").glob("*.kv")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-7] ^= 1
    for damage in (
        bytes(flipped),
        whole[:-1],
        whole[: len(whole) // 2],
        b"",
        b"vortex-kv 1\n{}\n",
        b"vortex-kv 1\nnot json\n",
        b"\x00" * 64,
    ):
        path.write_bytes(damage)
        assert kept(bench, snapshots) == first
        assert path.read_bytes() == whole
    assert snapshots.damaged == 7 and said[0] == f"the snapshot {path} is damaged; it is made again"


def test_the_oldest_snapshots_make_room(bench, tmp_path):
    size = len(kept(bench, Snapshots(tmp_path / "one", 1 << 30, print)))
    snapshots = Snapshots(tmp_path / "s", int(2.5 * size), print)
    for number in range(4):
        kept(bench, snapshots, [number + 1, *TOKENS[1:]])
    assert len(list((tmp_path / "s").glob("*.kv"))) == 2
    kept(bench, snapshots, [4, *TOKENS[1:]])
    assert snapshots.taken == 1
    none = Snapshots(tmp_path / "n", size // 2, print)
    kept(bench, none)
    assert none.made == 0


def test_a_folder_that_cannot_be_written_costs_the_snapshot_not_the_run(bench, tmp_path):
    (tmp_path / "s").write_text("a file")
    said = []
    snapshots = Snapshots(tmp_path / "s", 1 << 30, said.append)
    assert kept(bench, snapshots) and kept(bench, snapshots)
    assert len(said) == 1 and said[0].startswith("no snapshot is kept in ")
