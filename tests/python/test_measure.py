"""Statistics, needle items and scores, on cases whose answers are known."""

import math
import random

import numpy as np
import pytest

from vortex_attention.errors import UserError
from vortex_attention.eval import needle
from vortex_attention.eval.score import score
from vortex_attention.measure.statistics import mean_interval, median, proportion_interval, ratio_interval


def test_mean_interval_matches_a_textbook_case():
    interval = mean_interval([4.0, 6.0, 8.0])
    assert interval.center == pytest.approx(6.0)
    assert interval.high - interval.center == pytest.approx(4.302652730 * 2 / math.sqrt(3))


def test_mean_interval_covers_at_its_level():
    generator = random.Random(7)
    hits = 0
    for _ in range(2000):
        interval = mean_interval([generator.gauss(1.0, 2.0) for _ in range(6)])
        hits += interval.low <= 1.0 <= interval.high
    assert 0.93 < hits / 2000 < 0.97


def test_one_value_says_nothing_about_spread():
    assert mean_interval([3.0]).high == math.inf


def test_ratio_interval_is_the_geometric_mean():
    interval = ratio_interval([2.0, 8.0], [1.0, 1.0])
    assert interval.center == pytest.approx(4.0)
    assert interval.low < 4.0 < interval.high


def test_ratio_interval_refuses_unpaired_values():
    with pytest.raises(ValueError, match="pairs are required; 2 and 1 values came"):
        ratio_interval([1.0, 2.0], [1.0])


def test_proportion_interval_matches_wilson():
    interval = proportion_interval(8, 8)
    assert interval.center == 1.0
    assert interval.low == pytest.approx(0.6756, abs=1e-3)
    assert interval.high == 1.0


def test_median():
    assert median([3, 1, 2]) == 2
    assert median([4, 1, 2, 3]) == 2.5


TEXT = " ".join(f"Sentence number {i} speaks of nothing in particular, and ends." for i in range(400))


def words(text: str) -> list[int]:
    return [hash(word) % 50_000 for word in text.split()]


def chat(user: str, answer: str) -> str:
    return f"<user> {user} <assistant> {answer}"


def test_items_hold_their_length_and_depth():
    items = needle.make_items(TEXT, words, chat, length=600, count=8, seed=3)
    assert len({item.number for item in items}) == 8
    for index, item in enumerate(items):
        assert 584 <= len(item.prompt) <= 600
        assert item.depth == (index + 0.5) / 8
        share = item.needle_token / len(item.prompt)
        assert abs(share - item.depth) < 0.12
        assert item.answer == tuple(words(item.number))


def test_items_are_the_same_every_time():
    first = needle.make_items(TEXT, words, chat, length=300, count=3, seed=5)
    second = needle.make_items(TEXT, words, chat, length=300, count=3, seed=5)
    assert first == second
    assert first != needle.make_items(TEXT, words, chat, length=300, count=3, seed=6)


def test_items_of_one_seed_ask_for_the_same_numbers_at_every_length_and_count():
    short = needle.make_items(TEXT, words, chat, length=300, count=3, seed=5)
    long = needle.make_items(TEXT, words, chat, length=600, count=8, seed=5)
    assert [item.number for item in short] == [item.number for item in long[:3]]
    assert [item.depth for item in short] != [item.depth for item in long[:3]]


def test_a_length_that_cannot_hold_the_question_is_refused():
    with pytest.raises(UserError, match=r"\[needle\] a length of at least \d+ tokens; length=20; raise --length"):
        needle.make_items(TEXT, words, chat, length=20, count=1)


def test_no_items_are_refused():
    with pytest.raises(UserError, match=r"at least one item"):
        needle.make_items(TEXT, words, chat, length=300, count=0)


def test_score_of_a_known_case():
    full = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    arm = np.log(np.array([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]]))
    outcome = score(full, arm, (0, 1), 3.0)
    assert not outcome.exact
    assert outcome.log_probability == pytest.approx((math.log(0.25) + math.log(0.8)) / 2)
    assert outcome.kl == pytest.approx((0.5 * math.log(2) + 0.25 * math.log(0.5)) / 2)
    same = score(full, full, (0, 1), 3.0)
    assert same.exact and same.kl == 0.0
