"""scripts/build_tiny_backbone.py: its exams ask what no lesson asked."""

from __future__ import annotations

from random import Random

import build_tiny_backbone
from build_tiny_backbone import LESSON_BATCHES
from sevila.synthetic.draw import PLAIN
from tiny_backbone import vision
from tiny_backbone.language import lesson_seed
from tiny_backbone.lessons import batch, exam_seed


def test_exams_are_drawn_from_seeds_that_no_step_has() -> None:
    steps = {lesson_seed(0, step).getstate() for step in range(3000)}
    assert Random(-7).getstate() in steps  # a negative number is no seed of its own: it was used here
    assert not any(exam_seed(0, number).getstate() in steps for number in range(LESSON_BATCHES))


def test_the_lessons_and_scenes_of_an_exam_are_others() -> None:
    exam = build_tiny_backbone.examination(0)[:64]
    assert exam == batch(exam_seed(0, 0), 64)
    assert all(exam != batch(lesson_seed(0, step), 64) for step in range(1, 5))
    scenes = vision.exam(8, PLAIN, 0)[1]
    assert all(scenes != [vision.random_scene(rng) for _ in range(8)] for rng in (lesson_seed(0, 0), lesson_seed(0, 1)))
