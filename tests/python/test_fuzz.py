"""A slice of the fuzz targets of tests/fuzz that are Python: damaged weight files, damaged models. The long runs are commands (docs/development.md)."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "fuzz"))

import models
import pytest
import weights


def test_damaged_weight_files_end_in_words_or_in_tensors(tmp_path):
    survived = weights.run(tmp_path, runs=300, seed=7)
    assert all(0 < count < 300 for count in survived.values()), survived


@pytest.mark.slow
def test_damaged_models_end_in_words_or_run(tmp_path):
    survived = models.run(tmp_path, runs=8, seed=7)
    assert len(survived) == 13 and 0 < sum(survived.values()) < 8 * 13, survived
