"""The statistics against simulated truth: intervals cover, error rates hold, planted effects are found, sizes suffice."""

import importlib.util
import json
import math
import pathlib

import numpy as np
import pytest
from scipy import stats
from vortex_attention.measure.bootstrap import cluster_error, cluster_sums, paired_bootstrap
from vortex_attention.measure.campaign import Plan, batch_means, decide
from vortex_attention.measure.decide import (
    INFERIOR,
    NON_INFERIOR,
    UNDECIDED,
    holm,
    in_sequence,
    is_losing,
    mcnemar,
    non_inferiority,
    one_sided_p,
)
from vortex_attention.measure.power import (
    blocks_for_resolution,
    count_needed,
    effective_deviation,
    items_for_margin,
    resolution_of,
)

RNG = np.random.default_rng


def clustered(generator, clusters, size, mean=0.3, between=0.5, within=0.2):
    centers = generator.normal(mean, between, clusters)
    values = centers[:, None] + generator.normal(0, within, (clusters, size))
    return values.ravel(), np.repeat(np.arange(clusters), size)


def test_the_bootstrap_covers_when_items_share_clusters():
    generator, hits, naive = RNG(1), 0, 0
    for _ in range(400):
        values, clusters = clustered(generator, 20, 8)
        interval = paired_bootstrap(values, clusters, resamples=800)
        hits += interval.low <= 0.3 <= interval.high
        alone = paired_bootstrap(values, resamples=400)
        naive += alone.low <= 0.3 <= alone.high
    assert 0.92 < hits / 400 < 0.98
    assert naive / 400 < 0.7, "taking tries for independent items must be seen to fail"


def test_the_bootstrap_covers_skewed_losses():
    """Losses of log-probability are many zeros and a few large ones."""
    generator, hits = RNG(2), 0
    truth = 0.2 * 0.5
    for _ in range(400):
        values = np.where(generator.random(60) < 0.2, generator.exponential(0.5, 60), 0.0)
        interval = paired_bootstrap(values, resamples=800)
        hits += interval.low <= truth <= interval.high
    assert 0.91 < hits / 400 < 0.985


def test_the_bootstrap_is_the_same_every_time_and_knows_no_spread():
    values, clusters = clustered(RNG(3), 12, 3)
    assert paired_bootstrap(values, clusters) == paired_bootstrap(values, clusters)
    assert paired_bootstrap([0.5] * 9) == paired_bootstrap([0.5] * 9, "aaabbbccc").__class__(0.5, 0.5, 0.5, 9)
    with pytest.raises(ValueError, match="at least two clusters are required; 1 came"):
        paired_bootstrap([1.0, 2.0], "aa")
    with pytest.raises(ValueError, match="2 values and 1 clusters came"):
        cluster_sums([1.0, 2.0], "a")


def test_few_clusters_say_little():
    generator, hits = RNG(7), {2: 0, 3: 0, 4: 0}
    for _ in range(400):
        for count in hits:
            interval = paired_bootstrap(generator.normal(0.3, 1.0, count))
            hits[count] += interval.low <= 0.3 <= interval.high
    assert all(0.92 < hit / 400 < 0.98 for hit in hits.values()), hits
    assert non_inferiority([-0.5, 0.45], 0.01).kind == UNDECIDED


def test_with_one_item_a_cluster_the_error_is_the_usual_one():
    values = RNG(4).normal(size=30)
    sums, counts = cluster_sums(values, range(30))
    assert cluster_error(sums, counts) == pytest.approx(values.std(ddof=1) / math.sqrt(30))


def test_mcnemar_is_the_binomial_test_of_what_differs():
    baseline = [True] * 30 + [True] * 8 + [False] * 1 + [False] * 5
    arm = [True] * 30 + [False] * 8 + [True] * 1 + [False] * 5
    assert mcnemar(baseline, arm) == pytest.approx(stats.binomtest(1, 9).pvalue)
    assert mcnemar([True, False], [True, False]) == 1.0
    with pytest.raises(ValueError, match="pairs are required; 2 and 1 outcomes came"):
        mcnemar([True, False], [True])


def test_mcnemar_keeps_its_error_rate():
    generator, rejected = RNG(5), 0
    for _ in range(800):
        both = generator.random(80) < 0.7
        flips = generator.random((2, 80)) < 0.1
        rejected += mcnemar(list(both ^ flips[0]), list(both ^ flips[1])) < 0.05
    assert rejected / 800 < 0.06


def test_non_inferiority_has_three_answers():
    generator = RNG(6)
    assert non_inferiority(generator.normal(0.0, 0.1, 100), 0.1).kind == NON_INFERIOR
    assert non_inferiority(generator.normal(-0.3, 0.1, 100), 0.1).kind == INFERIOR
    assert non_inferiority(generator.normal(-0.02, 1.0, 10), 0.1).kind == UNDECIDED, "few items prove nothing"
    with pytest.raises(ValueError, match="a margin above 0 is required; 0 came"):
        non_inferiority([0.0, 0.1], 0)


def test_equal_answers_to_few_items_prove_nothing():
    assert non_inferiority([0.0] * 4, 0.01).kind == NON_INFERIOR, "without a worst loss the items speak for all"
    assert non_inferiority([0.0] * 4, 0.01, worst=1.0).kind == UNDECIDED
    assert non_inferiority([0.0] * 250 + [-1.0], 0.01, worst=1.0).kind == UNDECIDED
    assert non_inferiority([0.0] * 400, 0.01, worst=1.0).kind == NON_INFERIOR


def test_an_arm_at_the_margin_is_seldom_called_non_inferior():
    generator, claimed = RNG(7), 0
    for _ in range(300):
        claimed += non_inferiority(generator.normal(-0.1, 0.3, 40), 0.1).kind == NON_INFERIOR
    assert claimed / 300 < 0.05  # 2.5 % of each side, and the simulation's own spread


def test_holm_controls_the_chance_of_any_false_rejection():
    generator, false, found = RNG(8), 0, 0
    for _ in range(2000):
        values = generator.random(10)
        values[0] = 1e-4 * generator.random()
        rejected = holm(list(values))
        found += rejected[0]
        false += any(rejected[1:])
    assert false / 2000 < 0.06 and found == 2000
    assert holm([0.01, 0.04, 0.03]) == [True, False, False]
    assert holm([0.01, 0.02, 0.03]) == [True, True, True]
    assert holm([]) == [] and holm([math.nan, 0.001]) == [False, True]


def test_an_order_that_was_fixed_needs_no_correction():
    generator, false, found = RNG(9), 0, 0
    for _ in range(2000):
        values = [1e-4 * generator.random(), *generator.random(9)]  # the first is true, the others are not
        rejected = in_sequence(values)
        found += rejected[0]
        false += any(rejected[1:])
    assert false / 2000 < 0.06 and found == 2000
    assert in_sequence([0.01, 0.04, 0.06, 0.001]) == [True, True, False, False]
    assert in_sequence([]) == [] and in_sequence([math.nan, 0.001]) == [False, False]


def test_looks_only_ever_stop_losers():
    """Ten looks at an equal arm: the final one-sided test still errs in at most 5 %, and losers are stopped early."""
    generator, wins, saved = RNG(9), 0, []
    for _ in range(1500):
        values = generator.normal(0.0, 1.0, 60)
        wins += not any(is_losing(values[:n]) for n in range(6, 60, 6)) and one_sided_p(values) < 0.05
        bad = generator.normal(-1.0, 1.0, 60)
        saved.append(next((n for n in range(6, 61, 6) if is_losing(bad[:n])), 60))
    assert wins / 1500 <= 0.06
    assert np.mean(saved) < 20
    assert not is_losing([-5.0, -5.0, -5.0]), "too few to say"


def test_the_sizes_that_are_said_suffice():
    generator = RNG(10)
    count = items_for_margin(0.1, 0.3)
    claimed = (
        sum(non_inferiority(generator.normal(0.0, 0.3, count), 0.1).kind == NON_INFERIOR for _ in range(200)) / 200
    )
    assert 0.72 < claimed < 0.9
    count = count_needed(0.03, 0.05)
    found = sum(stats.ttest_1samp(generator.normal(0.03, 0.05, count), 0).pvalue < 0.05 for _ in range(2000)) / 2000
    assert 0.77 < found < 0.86
    blocks = blocks_for_resolution(0.01, 0.02)
    assert resolution_of(blocks, 0.02) <= 0.0101 < resolution_of(blocks - 2, 0.02)
    assert resolution_of(1, 0.02) == math.inf
    for bad in (
        lambda: count_needed(0, 1),
        lambda: items_for_margin(0.1, 1, truth=-0.1),
        lambda: blocks_for_resolution(0, 1),
    ):
        with pytest.raises(ValueError, match="required"):
            bad()


def test_batches_of_rounds():
    assert batch_means([1.0, 3.0]) == [1.0, 3.0]
    assert batch_means(range(24)) == [0.5 + 2 * i for i in range(12)]
    assert len(batch_means([0.0] * 375)) == 53 and batch_means([1.0] * 375) == [1.0] * 53
    assert batch_means(list(range(25)))[-1] == 23.0, "what is left over goes into the last"


def test_drift_makes_the_deviation_larger():
    generator = RNG(12)
    steady = generator.normal(0, 1, 4000)
    drifting = steady + np.repeat(generator.normal(0, 1, 400), 10)
    assert effective_deviation(steady) == pytest.approx(1.0, abs=0.1)
    assert effective_deviation(drifting) > 2.0 > drifting.std()
    assert effective_deviation(steady[:5]) == pytest.approx(steady[:5].std(ddof=1))


def campaigns(number, *, faster=0.0, worse=0.0, candidates=92, seed=11):
    """The real decision code on simulated noise: how often anyone equal wins, the planted one wins, the worse one is found."""
    generator, plan = RNG(seed), Plan.for_effect(0.03, 0.03, candidates)
    false = found = caught = 0
    for _ in range(number):

        def speed(candidate, first, count):
            return generator.normal(faster if candidate == 0 else 0.0, 0.03, count)

        def accuracy(candidate, first, count):
            return -np.where(generator.random(count) < 0.1, generator.exponential(0.3, count), 0.0) - (
                worse if candidate == 1 else 0.0
            )

        decision = decide(candidates, speed, accuracy, plan)
        false += any(
            candidate > 1 or (candidate == 0 and not faster) or (candidate == 1 and worse)
            for candidate in decision.winners
        )
        found += 0 in decision.winners
        caught += 1 in decision.worse
    return false / number, found / number, caught / number


def test_ninety_two_equal_flows_have_no_winner():
    false, _, _ = campaigns(100)
    assert false <= 0.1  # 5 % and three standard errors of 100 campaigns are 11.5 %


def test_planted_effects_are_found():
    false, found, caught = campaigns(100, faster=math.log(1.03), worse=0.2)
    assert found >= 0.8 and caught >= 0.8 and false <= 0.08


@pytest.mark.slow
def test_campaigns_on_recorded_noise():
    """92 behaviour-equal flows, each with its own rounds and items, resampled from what a machine really gave."""
    here = pathlib.Path(__file__).parent
    noise = json.loads((here / "reference" / "noise.json").read_text())
    spec = importlib.util.spec_from_file_location("equal_flows", here.parents[1] / "benchmarks" / "equal_flows.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    equal = tool.campaigns(noise, 30)
    assert equal["false"] <= 0.17  # 5 % and three standard errors of 30 campaigns
    planted = tool.campaigns(noise, 30, faster=0.03, worse=0.2)
    assert planted["found"] >= 0.65 and planted["caught"] >= 0.65  # 80 % less two standard errors
