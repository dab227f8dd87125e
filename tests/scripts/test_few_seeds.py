"""Intervals over few trainings: by hand, against tables of Student's distribution, and against a bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.few_seeds import Lead, Mean, Part, holm, of_seeds, student_quantile, student_tails
from study.intervals import Estimate

NAN = float("nan")


# -- Student's distribution ---


@pytest.mark.parametrize(  # two-sided points, from printed tables
    ("level", "freedom", "t"),
    [
        (95, 1, 12.7062),
        (95, 2, 4.3027),
        (95, 4, 2.7764),
        (95, 9, 2.2622),
        (95, 30, 2.0423),
        (95, 120, 1.9799),
        (90, 5, 2.0150),
        (99, 4, 4.6041),
        (99.9, 10, 4.5869),
        (95, math.inf, 1.9600),
    ],
)
def test_quantiles_as_in_tables(level: float, freedom: float, t: float) -> None:
    assert student_quantile(level, freedom) == pytest.approx(t, abs=6e-5)
    assert 100 * (1 - student_tails(t, freedom)) == pytest.approx(level, abs=2e-3)


@given(st.floats(0.01, 30))
def test_tails_where_they_have_a_closed_form(t: float) -> None:
    assert student_tails(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-9)  # Cauchy's
    assert student_tails(-t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)


@given(st.floats(0.1, 8), st.floats(1, 400))
def test_tails_shrink_with_t_and_with_degrees_of_freedom(t: float, freedom: float) -> None:
    assert student_tails(t, freedom) > student_tails(t + 0.1, freedom)
    assert student_tails(t, freedom) > student_tails(t, freedom + 1) > student_tails(t, math.inf)
    assert student_tails(0.0, freedom) == 1


# -- means ---


def test_a_mean_by_hand() -> None:
    """Two videos of two questions, three seeds."""
    values = np.array([[0.0, 30, 60, 90], [30, 30, 60, 60], [30, 60, 60, 60]])
    mean = Mean.of(values, None, ["a", "a", "b", "b"])
    assert mean.value == 47.5
    # seeds: 45, 45, 52.5; the questions' means 20, 40, 60, 70: off by -27.5, -7.5, 12.5, 22.5
    videos = 2 * ((-35 / 4) ** 2 + (35 / 4) ** 2)
    assert mean.parts == (Part(pytest.approx(videos), 1), Part(pytest.approx(18.75 / 3), 2))
    total = videos + 6.25
    assert mean.error == pytest.approx(total**0.5)
    assert mean.freedom == pytest.approx(total**2 / (videos**2 / 1 + 6.25**2 / 2))
    reach = student_quantile(95, mean.freedom) * mean.error
    assert mean.estimate() == Estimate(47.5, pytest.approx(47.5 - reach), pytest.approx(47.5 + reach))


def test_a_difference_is_paired_by_question_and_seed() -> None:
    videos = ["a", "b", "c"]
    one = np.array([[0.0, 50, 100], [50, 100, 100]])
    assert Mean.of(one + 7, one, videos) == Mean(
        pytest.approx(7), (Part(pytest.approx(0), 2), Part(pytest.approx(0), 1))
    )
    mean = Mean.of(one, one[:1], videos)  # nothing was trained of the other row
    assert [part.freedom for part in mean.parts] == [2, 1] and mean.value == pytest.approx(100 / 6)
    assert mean.parts[1].variance == pytest.approx((100 / 3) ** 2 / 2 / 2)
    assert len(Mean.of(one[:1], one[1:], videos).parts) == 1  # and of none: the videos only
    assert [*of_seeds([3.0])] == []


def test_an_interval_around_nothing_that_varies() -> None:
    same = np.full((2, 4), 50.0)
    mean = Mean.of(same, np.zeros((1, 4)), list("aabb"))
    assert mean.estimate() == Estimate(50, 50, 50) and mean.freedom == math.inf
    assert (mean.p_value(), mean.p_value(50.0)) == (0, 1)


def test_the_videos_part_is_the_bootstraps_variance() -> None:
    rng = np.random.default_rng(0)
    videos = np.repeat(np.arange(60), 5)
    easy = np.repeat(rng.normal(size=60), 5)
    better, worse = (100.0 * (easy + rng.normal(size=(1, 300)) > shift) for shift in (-0.2, 0.2))
    better[0, ::7] = NAN  # questions that do not count in one row
    mean = Mean.of(better, worse, videos.tolist())
    drawn = rng.multinomial(60, np.full(60, 1 / 60), size=20_000)  # how often each video comes in each resample

    def means(row: np.ndarray) -> np.ndarray:
        by_video = row[0].reshape(60, 5)
        return drawn @ np.nansum(by_video, 1) / (drawn @ (~np.isnan(by_video)).sum(1))

    found = (means(better) - means(worse)).std()
    assert mean.error == pytest.approx(found * (60 / 59) ** 0.5, rel=0.03)
    assert mean.value == pytest.approx(np.nanmean(better) - worse.mean())


def test_over_worlds() -> None:
    one, two = Mean(4.0, (Part(4.0, 9), Part(1.0, 4))), Mean(8.0, (Part(8.0, 9),))
    assert Mean.over([one, two]) == Mean(6.0, (Part(1.0, 9), Part(0.25, 4), Part(2.0, 9)))


@given(st.floats(0.1, 9), st.integers(1, 200), st.floats(-9, 9), st.floats(-9, 9))
def test_the_p_value_and_the_interval_agree(variance: float, freedom: int, value: float, bound: float) -> None:
    mean = Mean(value, (Part(variance, freedom),))
    estimate, p = mean.estimate(), mean.p_value(bound)
    if abs(p - 0.05) > 1e-9:
        assert (estimate.low <= bound <= estimate.high) == (p > 0.05)


def test_the_best_of_several() -> None:
    narrow, wide = Mean(2.0, (Part(0.01, 50),)), Mean(3.0, (Part(9.0, 4),))
    lead = Lead((wide, narrow))
    assert lead.closest is narrow
    assert lead.estimate() == Estimate(2.0, wide.estimate().low, narrow.estimate().high)  # not surely above both
    assert lead.p_value() == wide.p_value() > 0.05
    assert lead.p_value(2.5) == narrow.p_value(2.5) < 0.05  # surely less than 2.5 above the best of them


def test_what_has_no_interval() -> None:
    with pytest.raises(ValueError, match="one video"):
        Mean.of(np.zeros((2, 2)), None, ["a", "a"])
    with pytest.raises(ValueError, match="no question counts"):
        Mean.of(np.array([[0.0, 1], [NAN, NAN]]), None, ["a", "b"])
    with pytest.raises(ValueError, match=r"expected \[seeds, 3\]"):
        Mean.of(np.zeros((2, 2)), None, ["a", "b", "c"])
    with pytest.raises(ValueError, match="2 seeds and 3 seeds are not paired"):
        Mean.of(np.zeros((2, 2)), np.zeros((3, 2)), ["a", "b"])


# -- several claims ---


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_nothing_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, len(p_values) * p)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)
