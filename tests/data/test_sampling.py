"""The sampling rule, against the indices of the official code."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.data.sampling import clip_frames, random_indices, uniform_indices
from sevila.errors import UserError


def test_uniform_equals_the_official_indices(shared: Path) -> None:
    cases = json.loads((shared / "golden/sampling/sampling_uniform.json").read_text())
    faulty = 0
    for case in cases:
        clip = tuple(map(float, case["clip"])) if case["clip"] else None
        arguments = (case["n_video_frames"], case["fps"], case["n_frms"], clip)
        if "indices" in case:
            assert uniform_indices(*arguments) == case["indices"], case
        else:  # where the official code fails, and then takes a random other row
            faulty += 1
            with pytest.raises(UserError, match="clip"):
                uniform_indices(*arguments)
    assert (len(cases), faulty) == (18, 3)


def test_both_rules_equal_the_official_indices(shared: Path) -> None:
    cases = json.loads((shared / "golden/model64/aux.json").read_text())["sampling"]
    assert len(cases) == 9
    for case in cases:
        clip = tuple(case["clip"]) if case["clip"] else None
        arguments = (case["vlen"], case["fps"], case["n_frms"], clip)
        assert uniform_indices(*arguments) == case["uniform"], case
        assert random_indices(*arguments, rng=random.Random(5)) == case["random_seed5"], case


def test_known_values() -> None:
    assert uniform_indices(100, 25.0, 4) == [12, 37, 62, 87]
    assert random_indices(100, 25.0, 4, rng=random.Random(5)) == [19, 33, 73, 86]
    assert uniform_indices(331, 29.97, 4, (2.5, 7.0)) == [90, 124, 158, 192]
    assert uniform_indices(50, 10.0, 4, (-2.0, 3.0)) == [3, 11, 18, 26]
    assert uniform_indices(50, 10.0, 4, (2.0, 99.0)) == [23, 31, 38, 46]


def test_a_short_video_gives_all_its_frames() -> None:
    assert uniform_indices(3, 10.0, 32) == [0, 1, 2]
    assert random_indices(3, 10.0, 32, rng=random.Random(0)) == [0, 1, 2]
    assert uniform_indices(1, 10.0, 4) == [0]


def test_a_clip_of_no_length_gives_one_frame_again_and_again() -> None:
    assert uniform_indices(100, 25.0, 5, (2.0, 2.0)) == [50] * 5
    assert random_indices(100, 25.0, 5, (2.0, 2.0), rng=random.Random(1)) == [50] * 5


def test_a_backward_clip_gives_backward_frames() -> None:
    assert uniform_indices(100, 25.0, 4, (2.0, 1.0)) == [46, 40, 34, 28]
    drawn = random_indices(100, 25.0, 4, (2.0, 1.0), rng=random.Random(0))
    assert drawn == sorted(drawn, reverse=True) and drawn[-1] >= 25 and drawn[0] < 50


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ((math.nan, math.nan), "clip nan to nan s is not a stretch of time"),
        ((1.0, math.inf), "clip 1.0 to inf s is not a stretch of time"),
        ((-3.0, -1.0), "clip -3.0 to -1.0 s ends before the video starts"),
        ((4.0, 9.0), r"clip 4.0 to 9.0 s starts past the end of the video \(4.0 s\)"),
        ((7.0, 9.0), "clip 7.0 to 9.0 s starts past the end"),
    ],
)
def test_a_faulty_clip_is_named_and_never_replaced(clip: tuple[float, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        uniform_indices(100, 25.0, 4, clip)
    with pytest.raises(UserError, match=message):
        random_indices(100, 25.0, 4, clip, rng=random.Random(0))


def test_no_frames_asked_for_or_there() -> None:
    with pytest.raises(UserError, match="cannot sample 0 frames"):
        uniform_indices(10, 25.0, 0)
    with pytest.raises(UserError, match="a video that has none"):
        uniform_indices(0, 25.0, 4)


@given(
    length=st.integers(1, 5000),
    fps=st.floats(0.5, 120),
    n=st.integers(1, 100),
    start=st.floats(0, 1, exclude_max=True),
    span=st.floats(0, 2),
    seed=st.integers(),
)
def test_indices_are_ordered_and_lie_in_the_clip(
    length: int, fps: float, n: int, start: float, span: float, seed: int
) -> None:
    seconds = length / fps
    clip = (start * (length - 1) / fps, start * (length - 1) / fps + span * seconds)
    lowest, highest = int(clip[0] * fps), int(min(clip[1] * fps, length))
    for indices in (
        uniform_indices(length, fps, n, clip),
        random_indices(length, fps, n, clip, rng=random.Random(seed)),
    ):
        assert len(indices) == min(n, length)
        assert indices == sorted(indices)
        assert lowest <= indices[0] and indices[-1] <= max(lowest, highest - 1)


@given(length=st.integers(1, 5000), n=st.integers(1, 100), seed=st.integers())
def test_a_whole_video_gives_no_frame_twice(length: int, n: int, seed: int) -> None:
    assert len(set(uniform_indices(length, 25.0, n))) == min(n, length)
    assert len(set(random_indices(length, 25.0, n, rng=random.Random(seed)))) == min(n, length)


SLIDES = [
    n / 30 if n < 30 else n - 28.0 for n in range(90)
]  # 90 frames over 62 s: the first second has a third of them


def test_a_clip_of_uneven_frames() -> None:
    fps = 90 / 62
    assert clip_frames(90, fps, (10.0, 20.0), SLIDES) == (38, 48)
    assert clip_frames(90, fps, (0.0, 1.0), SLIDES) == (0, 29)
    assert clip_frames(90, fps, (1.5, 61.5), SLIDES) == (29, 89)
    assert clip_frames(90, fps, (61.9, 99.0), SLIDES) == (89, 90)  # it starts before the end
    assert uniform_indices(90, fps, 2, (10.0, 20.0), SLIDES) == [40, 45]
    with pytest.raises(UserError, match=r"starts past the end of the video \(62\.0 s\)"):
        uniform_indices(90, fps, 2, (62.0, 63.0), SLIDES)


@given(start=st.floats(0, 0.999), span=st.floats(0, 1), n=st.integers(1, 12))
def test_even_times_say_what_the_rate_says(start: float, span: float, n: int) -> None:
    clip = (start * 4, start * 4 + span * 4)
    times = [index / 32 for index in range(128)]
    assert uniform_indices(128, 32.0, n, clip, times) == uniform_indices(128, 32.0, n, clip)
