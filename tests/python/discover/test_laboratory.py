"""The laboratory with a real engine and a random model: what it keeps between studies."""

from reference.random_model import random_llama

import vortex_attention.discover.laboratory as laboratories
from vortex_attention.discover.laboratory import Laboratory, Workload
from vortex_attention.flows import ready

TEXT = " ".join(f"Sentence {i} says little of item {i * 7}." for i in range(900))


def test_a_study_that_goes_on_takes_its_items_from_snapshots(tmp_path, monkeypatch):
    monkeypatch.setattr(laboratories, "natural_text", lambda: TEXT)
    monkeypatch.setenv("VORTEX_CACHE", str(tmp_path / "cache"))
    path = random_llama(tmp_path / "tiny.gguf", context=1024)
    workload = Workload(
        model=str(path), length=640, screen_items=2, gate_items=4, confirm_items=2, batch=1, context=640, threads=1
    )

    def measured(snapshots):
        laboratory = Laboratory(workload, snapshots=snapshots)
        results = [
            result
            for part in ("screen", "gate")
            for batch in laboratory.accuracy(ready("centroid"), part)
            for result in batch
        ]
        list(laboratory.accuracy(ready("centroid"), "confirm", seed=7))
        return results, laboratory.snapshots

    first, kept = measured(1.0)
    assert (kept.made, kept.taken) == (6, 0)  # a confirmation's items are never asked for again
    again, kept = measured(1.0)
    assert (kept.made, kept.taken) == (0, 6)
    without, kept = measured(0.0)
    assert (kept.made, kept.taken) == (0, 6)
    assert first == again == without
