"""A drawn-up answer that the tests of timelines show."""

from __future__ import annotations

import numpy as np

from sevila.report.timeline import Timeline

TIMES = tuple(i + 0.5 for i in range(8))
SCORES = (-1.0, 0.5, 3.25, 2.0, -0.5, 1.5, 0.0, -2.0)
LINE = Timeline(
    question="what does the red star hold?",
    options=("a cup", "a key", "a fork"),
    prediction=1,
    answer=1,
    probabilities=(0.25, 0.625, 0.125),
    times=TIMES,
    scores=SCORES,
    keyframes=(5, 2, 3),
    windows=((2.0, 4.0), (5.25, 5.75)),
    duration=8.0,
)
IMAGES = [np.full((6, 8, 3), shade, np.uint8) for shade in (50, 20, 30)]  # of frames 5, 2, 3
