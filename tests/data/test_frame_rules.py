"""Which frames are taken, and in which view: by the key and a seed alone."""

from __future__ import annotations

import pytest
import torch

from sevila.data.sampling import PLAIN, EvaluationFrames, FrameRule, RecurringFrames, TrainingFrames
from sevila.data.video import VideoInfo

VIDEO = VideoInfo(length=50, fps=25.0, width=96, height=64, duration=2.0)
PIXELS = torch.arange(2 * 3 * 32 * 32).remainder(251).to(torch.uint8).view(2, 3, 32, 32)


def indices(rule: FrameRule, epoch: int, index: int = 0) -> list[int]:
    return rule.indices(VIDEO, None, (epoch, index))


def test_evaluation_is_plain_midpoints() -> None:
    rule = EvaluationFrames(4)
    assert indices(rule, 0) == indices(rule, 3) == [6, 18, 31, 43]
    assert rule.view(32, (0, 0)) == PLAIN
    assert torch.equal(rule.transform(PIXELS, (0, 0)), PIXELS)


def test_training_draws_do_not_depend_on_the_machine() -> None:
    assert indices(TrainingFrames(4, seed=0), 0) == [11, 12, 30, 48]


def test_training_views_are_not_worth_storing() -> None:
    assert TrainingFrames(4, seed=0).view(32, (0, 0)) is None
    assert TrainingFrames(4, seed=0, crop=False).view(32, (0, 0)) is None
    assert TrainingFrames(4, seed=0, crop=False).box(32, (0, 0)) is None


@pytest.mark.parametrize("crop", [True, False])
def test_recurring_frames_come_again(crop: bool) -> None:
    plain = TrainingFrames(4, seed=0, crop=crop)
    rule = RecurringFrames(plain, views=2)
    for epoch in range(4):
        key, first = (epoch, 3), (epoch % 2, 3)
        assert indices(rule, epoch, 3) == indices(plain, epoch % 2, 3)
        assert torch.equal(rule.transform(PIXELS, key), plain.transform(PIXELS, first))
        box = plain.box(32, first)
        assert rule.view(32, key) == (PLAIN if box is None else f"crop-{box[0]}-{box[1]}-{box[2]}-{box[3]}")
    assert indices(rule, 0, 3) != indices(rule, 1, 3)
    assert (rule.view(32, (0, 3)) != rule.view(32, (1, 3))) == crop


def test_uneven_frames_are_found_by_their_times() -> None:
    slides = VideoInfo(4, 4 / 40, 96, 64, 40.0, times=(0.0, 1.0, 2.0, 30.0))
    assert EvaluationFrames(2).indices(slides, (1.0, 31.0), (0, 0)) == [1, 2]
    assert EvaluationFrames(1).indices(slides, (30.5, 40.0), (0, 0)) == [3]
    for rule in (TrainingFrames(2, seed=0), RecurringFrames(TrainingFrames(2, seed=0), 1)):
        first, second = rule.indices(slides, (1.0, 31.0), (0, 0))
        assert first == 1 and second == 2
