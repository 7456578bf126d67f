"""A slice of benchmarks/clients.py: agents at once on one study, workers that are killed; every submission is answered, shares are fair, accounts exact."""

import importlib.util
import pathlib
import random
import sys

import pytest

BENCHMARK = pathlib.Path(__file__).resolve().parents[3] / "benchmarks" / "clients.py"


@pytest.mark.slow
def test_many_agents_at_once(tmp_path):
    spec = importlib.util.spec_from_file_location("clients", BENCHMARK)
    clients = importlib.util.module_from_spec(spec)
    sys.modules["clients"] = clients
    spec.loader.exec_module(clients)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    report = clients.run(tmp_path, seconds=12, clients=8, pause=0.1, kill_every=5, seed=seed)
    assert report.wrong == []
    assert report.kills >= 2 and report.proposals >= 16 and len(report.served) == 8
