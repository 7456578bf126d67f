"""A slice of benchmarks/kills.py: studies killed at random moments lose nothing, double nothing and come to their end."""

import importlib.util
import os
import pathlib
import random
import sqlite3
import sys

import pytest

BENCHMARK = pathlib.Path(__file__).resolve().parents[3] / "benchmarks" / "kills.py"


@pytest.fixture(scope="module")
def kills():
    spec = importlib.util.spec_from_file_location("kills", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("evaluator", "count"), [("null", 12), ("tiny", 3)])
def test_nothing_is_lost_and_nothing_doubled(kills, evaluator, count, tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}: benchmarks/kills.py --evaluator {evaluator} --kills {count} --seed {seed}")
    report = kills.run(evaluator, count, seed, tmp_path)
    assert report.wrong == [] and report.kills == count


@pytest.mark.slow
def test_campaigns_at_once_measure_nothing_twice(kills, tmp_path):
    """Confirmations included: as many runs as verdicts stand on."""
    subject = kills.Subject("null", 1, tmp_path / "study.sqlite")
    workers = [subject.fork()[0] for _ in range(3)]
    assert [os.waitpid(worker, 0)[1] for worker in workers] == [0, 0, 0]
    rows = kills.rows_of(subject.path)
    assert len(rows["run"]) == len([row for row in rows["verdict"] if row[6] is not None]) > 20
    assert sum(row[1] == "confirm" for row in rows["verdict"]) > 1 and kills.story(subject.path)["open"] == []


@pytest.mark.slow
def test_the_harness_sees_what_is_lost_and_what_is_doubled(kills, tmp_path):
    """It is no judge that finds nothing wrong with anything."""
    subject = kills.Subject("null", 1, tmp_path / "study.sqlite")
    subject.work()
    wrong: list[str] = []
    before = kills.look(subject.path, {}, ["1 bench"], wrong)
    assert wrong == []
    with sqlite3.connect(subject.path) as connection:
        run = connection.execute("SELECT run FROM verdict WHERE gate = 'screen' AND run IS NOT NULL").fetchone()[0]
        for verb in ("update", "delete"):
            connection.execute(f"DROP TRIGGER verdict_no_{verb}")
        connection.execute(
            "UPDATE verdict SET run = ? WHERE gate = 'gate' AND run IS NOT NULL AND proposal = 1", (run,)
        )
        connection.execute("DELETE FROM verdict WHERE gate = 'bench' AND proposal = 1")
    connection.close()
    kills.look(subject.path, before, ["1 bench"], wrong)
    assert [one.split(":")[0] for one in wrong] == [
        "lost of verdict",
        "the verdict of bench on proposal 1 was answered for and is not there",
        "two verdicts stand on one run",
    ]
