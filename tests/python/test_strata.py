"""The mean over fixed cells and its error: against the closed form where there is one, against repeated draws where there is none."""

import math

import numpy as np
import pytest
from scipy import stats
from vortex_attention.measure.strata import stratified


def test_one_cell_is_students_t():
    values = [0.0, 1.0, -2.0, 0.5, 0.25]
    found = stratified(values, ["c"] * 5, range(5), ["t"] * 5)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.interval().low, found.interval().high) == pytest.approx((low, high))
    assert found.freedom == pytest.approx(4) and (found.clusters, found.differing) == (5, 4)
    assert found.p_at_most(-1) == pytest.approx(stats.ttest_1samp(values, -1, alternative="greater").pvalue)


def test_cells_weigh_the_same_however_many_questions_they_were_asked():
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    found = stratified(values, [1, 1, 1, 1, 2, 2], range(6), ["a"] * 4 + ["b"] * 2)
    assert found.center == 0.5 and found.error == 0.0 and math.isinf(found.freedom)  # tasks differ, questions do not
    assert found.interval().low == found.interval().high == 0.5
    assert found.p_at_most(0) == 0.0 and found.p_at_most(0.5) == 1.0


def test_a_question_at_two_lengths_is_asked_once():
    values = [1.0, 0.0, 0.5, 0.0]
    once = stratified(values, ["a"] * 4, range(4), ["t"] * 4)
    twice = stratified(values * 2, ["a"] * 4 + ["b"] * 4, [*range(4)] * 2, ["t"] * 8)
    apart = stratified(values * 2, ["a"] * 4 + ["b"] * 4, range(8), ["t"] * 8)
    assert twice.error == pytest.approx(once.error) and apart.error == pytest.approx(once.error / math.sqrt(2))


def test_a_cell_of_one_document_counts_as_chance():
    found = stratified([0.2, 0.0, 0.1, 0.3], ["q"] * 4, ["document"] * 4, ["q"] * 4)
    assert found.error == pytest.approx(0.15) and found.freedom == 1


def test_intervals_hold_what_they_promise():
    """13 tasks at two lengths of which one is asked thrice as often, losses that differ by task and come in documents."""
    generator, means, covered, errors, centers = np.random.default_rng(5), np.linspace(-0.1, 0.1, 13), 0, [], []
    for _ in range(400):
        values, cells, clusters, strata = [], [], [], []
        for task, mean in enumerate(means):
            document = mean + generator.normal(0, 0.2, 15)
            for length, asked in (("short", 5), ("long", 15)):
                for question in range(asked):
                    values.append(document[question // 2] + generator.normal(0, 0.1))
                    cells.append((length, task))
                    clusters.append((task, question // 2))
                    strata.append(task)
        found = stratified(values, cells, clusters, strata)
        covered += found.interval().low <= 0 <= found.interval().high
        errors.append(found.error)
        centers.append(found.center)
    assert 0.92 <= covered / 400 <= 0.985
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(centers), rel=0.1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="a cell, a cluster and a stratum for each value; 2 values, 1, 2 and 2 came"):
        stratified([0.0, 1.0], ["c"], [1, 2], ["t", "t"])
    with pytest.raises(ValueError, match="a cluster in one stratum; 1 lies in t and u"):
        stratified([0.0, 1.0], ["c", "d"], [1, 1], ["t", "u"])
    with pytest.raises(ValueError, match="a cell in one stratum; c lies in t and u"):
        stratified([0.0, 1.0], ["c", "c"], [1, 2], ["t", "u"])
