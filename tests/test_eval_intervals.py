"""Intervals hold the truth as often as they say; pairing and clustering do what they are for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.train.evaluation.intervals import clustered, difference_interval, mean_interval, paired_or_not

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from interval_coverage import alike, coverage, one_each, pair, several


@pytest.mark.parametrize(
    "case", [one_each(100, 0.5), several(60, 2, 2), pair(60, 0.1, True)], ids=lambda case: case.name
)
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(case):
    assert 0.93 <= coverage(case, 500, 300) <= 0.97


def test_answers_of_one_prompt_are_not_independent():
    case = several(100, 0.5, 0.5)
    assert coverage(case, 200, 200, by_prompt=False) < 0.9
    assert 0.92 <= coverage(case, 200, 200) <= 0.98


def test_the_same_data_and_seed_give_the_same_interval_and_the_order_of_rows_does_not_matter():
    values, names = [0.0, 1.0, 1.0, 0.0, 1.0], ["b", "a", "b", "c", "c"]
    there = mean_interval(clustered(values, names), seed=3)
    back = mean_interval(clustered(values[::-1], names[::-1]), seed=3)
    assert there == back
    assert there.value == pytest.approx(0.6)
    assert (there.clusters, there.rows) == (3, 5)


def test_answers_that_all_agree_get_the_exact_bound_not_a_width_of_zero():
    none = mean_interval(clustered([0.0] * 30, [str(n) for n in range(30)]))
    assert (none.low, none.method) == (0.0, "exact")
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 30))  # Clopper and Pearson, 0 of 30
    every = mean_interval(clustered([1.0] * 30, [str(n) for n in range(30)]))
    assert every.low == pytest.approx(0.025 ** (1 / 30))
    assert every.high == 1.0
    lengths = mean_interval(clustered([12.0] * 30, [str(n) for n in range(30)]))
    assert (lengths.low, lengths.high, lengths.method) == (None, None, "none")


def test_a_side_without_spread_still_counts_in_the_difference():
    names = [str(n) for n in range(30)]
    all_right, none_right = clustered([1.0] * 30, names), clustered([0.0] * 30, names)
    found = difference_interval(all_right, none_right, paired=True)
    assert found.value == 1.0
    assert found.low == pytest.approx(1 - 2**0.5 * (1 - 0.025 ** (1 / 30)))
    same = difference_interval(none_right, none_right, paired=True)
    assert same.low is not None
    assert same.high is not None
    assert same.low < 0 < same.high


def test_a_small_difference_of_models_that_mostly_agree_is_held():
    assert coverage(alike(20, 0.02), 300, 200) >= 0.95  # nearly all of these show no difference at all


def test_models_that_agree_on_every_prompt_may_still_differ():
    names = [str(n) for n in range(20)]
    half = clustered([1.0] * 10 + [0.0] * 10, names)
    found = difference_interval(half, half, paired=True)
    reach = 1 - 0.025 ** (1 / 20)
    assert (found.value, found.method) == (0.0, "exact")
    assert (found.low, found.high) == (pytest.approx(-reach), pytest.approx(reach))
    thrice = [name for name in names for _ in range(3)]  # one model has one more of three right, whatever the prompt
    less, more = clustered([0, 0, 0, 1, 0, 0] * 10, thrice), clustered([1, 0, 0, 1, 1, 0] * 10, thrice)
    found = difference_interval(more, less, paired=True)
    assert (found.value, found.method) == (pytest.approx(1 / 3), "exact")
    assert (found.low, found.high) == (pytest.approx(1 / 3 - 4 / 3 * reach), pytest.approx(1 / 3 + 2 / 3 * reach))
    lengths = clustered([float(n) for n in range(20)], names)
    assert difference_interval(lengths, lengths, paired=True).method == "none"
    assert difference_interval(half, half, paired=False).method == "bootstrap"


def test_pairing_takes_out_what_is_hard_for_both():
    rng = np.random.default_rng(0)
    names = [str(n) for n in range(80)]
    hard = rng.random(80)
    one = clustered(((hard + 0.05) > rng.random(80)).astype(float).tolist(), names)
    other = clustered((hard > rng.random(80)).astype(float).tolist(), names)
    paired = difference_interval(one, other, paired=True)
    apart = difference_interval(one, other, paired=False)
    assert paired.high - paired.low < apart.high - apart.low


def test_only_shared_prompts_are_paired_and_unshared_ones_are_not():
    one, other = clustered([1.0, 0.0, 1.0], ["a", "b", "c"]), clustered([0.0, 1.0, 0.0], ["b", "c", "d"])
    left, right, paired = paired_or_not(one, other)
    assert paired
    assert left.keys == right.keys == ("b", "c")
    assert (left.mean, right.mean) == (0.5, 0.5)
    assert paired_or_not(one, clustered([1.0], ["z"]))[2] is False


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf")]])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        clustered(values, ["a"] * len(values))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30))
def test_an_interval_holds_its_own_mean_within_the_range_of_clusters(rows):
    data = clustered([value for value, _ in rows], [str(name) for _, name in rows])
    found = mean_interval(data, resamples=100)
    means = data.sums / data.counts
    assert means.min() - 1e-9 <= found.value <= means.max() + 1e-9
    if found.low is not None:
        assert found.low <= found.high
        assert found.low >= -1e-9
        assert found.high <= 1 + 1e-9
