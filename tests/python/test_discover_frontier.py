"""The frontier with probabilities: what dominates, what cannot be told, and that noise alone wins nothing."""

import numpy as np
import pytest

from vortex_attention import UserError
from vortex_attention.discover.frontier import IN, OUT, Measured, frontier


def flow(key, gain, ratio, *, rng, behaviour="", items=40, blocks=6, item_noise=0.05, block_noise=0.02):
    gains = {f"item{i}": gain + item_noise * rng.standard_normal() for i in range(items)}
    return Measured(key, gains, tuple(np.log(ratio) + block_noise * rng.standard_normal(blocks)), behaviour)


def by_key(points):
    return {point.key: point for point in points}


def test_clear_points_are_in_and_dominated_ones_out():
    rng = np.random.default_rng(1)
    points = by_key(
        frontier(
            [flow("fast", -0.4, 4.0, rng=rng), flow("exact", 0.0, 2.5, rng=rng), flow("worse", -0.5, 2.0, rng=rng)]
        )
    )
    assert points["fast"].state == points["exact"].state == IN and points["worse"].state == OUT
    assert points["exact"].p_accurate > 0.95 and points["fast"].p_accurate < 0.05
    assert points["worse"].hypervolume_gain < 1e-3 < points["exact"].hypervolume_gain
    assert points["fast"].ratio_interval[0] < 4.05 and points["fast"].ratio_interval[1] > 3.95


def test_equal_flows_cannot_be_told_apart():
    rng = np.random.default_rng(2)
    points = frontier([flow(f"copy{i}", -0.1, 3.0, rng=rng) for i in range(20)])
    assert sum(point.state == IN for point in points) <= 1


def test_flows_of_one_behaviour_are_one_point():
    rng = np.random.default_rng(3)
    points = frontier([flow(f"copy{i}", -0.1, 3.0, rng=rng, behaviour="same pages") for i in range(92)])
    assert len(points) == 1 and points[0].state == IN and len(points[0].twins) == 91


def test_items_are_paired():
    """A hard item weighs on both flows in the same draws, so a small steady difference is seen through large spread."""
    rng = np.random.default_rng(4)
    hard = 2.0 * rng.standard_normal(40)
    gains = [{f"item{i}": hard[i] + shift + 0.01 * rng.standard_normal() for i in range(40)} for shift in (0.0, -0.1)]
    points = by_key(
        frontier([Measured("better", gains[0], (1.0, 1.01, 0.99)), Measured("worse", gains[1], (0.9, 0.91, 0.89))])
    )
    assert points["worse"].state == OUT


def test_the_same_seed_gives_the_same_points():
    made = [flow("a", -0.1, 3.0, rng=np.random.default_rng(5)), flow("b", -0.2, 3.1, rng=np.random.default_rng(6))]
    assert frontier(made, seed=7) == frontier(made, seed=7)


def test_nothing_measured():
    assert frontier([]) == []
    with pytest.raises(UserError, match="a flow with items and timed blocks; came: x with 0 and 1|x with 0 and 1"):
        frontier([Measured("x", {}, (0.0,))])
