"""Paired bootstrap: draws by hand, against a plain loop, and against what theory says of simple cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from study.bootstrap import Draws, interval
from study.intervals import Estimate

NAN = float("nan")


def make(clusters: list[object], seeds: int = 1, resamples: int = 4000) -> Draws:
    return Draws.make(clusters, seeds, np.random.default_rng(0), resamples)


def test_means_by_hand() -> None:
    draws = Draws(
        cluster_of=np.array([0, 0, 1]),
        clusters=np.array([[1, 1], [2, 0], [0, 2], [0, 2]]),
        seeds=np.array([[1, 1], [2, 0], [0, 2], [1, 1]]),
    )
    values = np.array([[0.0, 60.0, 90.0], [30.0, NAN, NAN]])
    # all of it: 0, 60, 90 and 30; the first seed's first two, twice; nothing counts; 90 alone, twice
    np.testing.assert_allclose(draws.means(values), [45.0, 30.0, NAN, 90.0])
    np.testing.assert_allclose(draws.means(values[:1]), [50.0, 30.0, 90.0, 90.0])  # no seed: none is drawn


numbers = st.floats(-50, 50).map(lambda x: round(x, 3))


@given(st.data(), st.integers(1, 3), st.lists(st.sampled_from("abcd"), min_size=1, max_size=9))
def test_means_as_a_plain_loop_finds_them(data: st.DataObject, seeds: int, clusters: list[str]) -> None:
    values = data.draw(arrays(float, (seeds, len(clusters)), elements=numbers | st.just(NAN)))
    draws = make(clusters, seeds, resamples=20)
    names = list(dict.fromkeys(clusters))
    for i, mean in enumerate(draws.means(values)):
        drawn = [
            value
            for seed in range(seeds)
            for question, value in enumerate(values[seed])
            for _ in range(draws.seeds[i, seed] * draws.clusters[i, names.index(clusters[question])])
            if not np.isnan(value)
        ]
        assert mean == pytest.approx(np.mean(drawn), abs=1e-9) if drawn else np.isnan(mean)


@given(arrays(float, (2, 6), elements=numbers), numbers)
def test_differences_are_paired(values: np.ndarray, shift: float) -> None:
    draws = make(list("aabbcc"), 2, resamples=50)
    low, high = interval(draws.means(values + shift) - draws.means(values))
    assert low == pytest.approx(shift, abs=1e-9) and high == pytest.approx(shift, abs=1e-9)


def test_every_resample_draws_as_many_as_there_are() -> None:
    draws = make(["a", "b", "a", "c"], seeds=5)
    assert draws.clusters.shape == (4000, 3) and set(draws.clusters.sum(1)) == {3}
    assert draws.seeds.shape == (4000, 5) and set(draws.seeds.sum(1)) == {5}
    assert draws.cluster_of.tolist() == [0, 1, 0, 2]


def test_two_questions_have_three_means() -> None:
    means = make([0, 1]).means(np.array([[0.0, 100.0]]))
    found = {value: np.mean(means == value) for value in (0.0, 50.0, 100.0)}
    assert sum(found.values()) == 1
    assert found[0.0] == pytest.approx(0.25, abs=0.03) and found[50.0] == pytest.approx(0.5, abs=0.03)
    assert interval(means) == (0.0, 100.0)


def test_the_spread_is_the_standard_error() -> None:
    """Of 400 answers, 30 % right: sqrt(.3 x .7 / 400), and an interval of 1.96 of it to either side."""
    right = np.array([[100.0] * 120 + [0.0] * 280])
    means = make(list(range(400)), resamples=10_000).means(right)
    error = 100 * (0.3 * 0.7 / 400) ** 0.5
    assert means.mean() == pytest.approx(30, abs=0.1) and means.std() == pytest.approx(error, rel=0.03)
    low, high = interval(means)
    assert low == pytest.approx(30 - 1.96 * error, abs=0.3) and high == pytest.approx(30 + 1.96 * error, abs=0.3)


def test_questions_that_go_together_count_as_one() -> None:
    """The same 400 answers in 40 videos that are right or wrong as a whole: sqrt(10) times the error."""
    right = np.array([[100.0] * 120 + [0.0] * 280])
    means = make([i // 10 for i in range(400)], resamples=10_000).means(right)
    assert means.std() == pytest.approx(100 * (0.3 * 0.7 / 40) ** 0.5, rel=0.03)


def test_seeds_that_differ_widen_the_interval() -> None:
    """Five trainings whose means differ by a standard deviation of 10: an error of 10 / sqrt(5)."""
    seeds = np.array([-1.0, -1.0, 0.0, 1.0, 1.0])
    values = 50 + 10 / seeds.std() * seeds[:, None] + np.zeros((5, 8))
    means = make(list(range(8)), 5, resamples=10_000).means(values)
    assert means.std() == pytest.approx(10 / 5**0.5, rel=0.03)


def test_the_same_generator_gives_the_same_draws() -> None:
    one, same, other = (Draws.make("abc", 2, np.random.default_rng(seed), 30) for seed in (7, 7, 8))
    assert (one.clusters == same.clusters).all() and (one.seeds == same.seeds).all()
    assert (one.clusters != other.clusters).any()


def test_interval_by_hand() -> None:
    assert interval(np.arange(101.0)) == (2.5, 97.5)
    assert interval(np.array([NAN, 3.0, NAN])) == (3.0, 3.0)
    assert interval(np.arange(101.0), level=50) == (25.0, 75.0)
    with pytest.raises(ValueError, match="no resample"):
        interval(np.array([NAN]))


@pytest.mark.parametrize(("clusters", "seeds", "resamples"), [([], 1, 1), (["a"], 0, 1), (["a"], 1, 0)])
def test_nothing_to_draw(clusters: list[str], seeds: int, resamples: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Draws.make(clusters, seeds, np.random.default_rng(0), resamples)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (2,)])
def test_values_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[2 or 1, 2\]"):
        make(["a", "b"], 2).means(np.zeros(shape))


def test_an_estimate_in_words_and_json() -> None:
    estimate = Estimate(1.23456789, -0.5, 3.0)
    assert str(estimate) == "1.23 [-0.50, 3.00]"
    assert estimate.to_json() == {"mean": 1.2346, "low": -0.5, "high": 3.0}
