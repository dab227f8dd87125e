"""A few predictions as pictures, for report pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sevila.report.timeline import Timeline
from sevila.tasks.chain import Prediction
from sevila.tasks.source import VideoSource

EXAMPLES = 6

Example = tuple[Timeline, list[np.ndarray]]


def example(prediction: Prediction, source: VideoSource) -> Example:
    """The timeline of a prediction and its keyframes [H, W, 3], uint8."""
    question, frames = prediction.question, prediction.frames
    path = source.folder.path(question.video)
    scores = [frame.score for frame in frames]
    keyframes = source.videos.read(path, [frames[i].index for i in prediction.keyframes])
    timeline = Timeline(
        question=question.question,
        options=question.options,
        prediction=prediction.prediction,
        answer=question.answer,
        probabilities=torch.tensor(prediction.option_logits).softmax(-1).tolist(),
        times=[frame.time for frame in frames],
        scores=None if None in scores else scores,
        keyframes=prediction.keyframes,
        windows=question.windows,
        duration=source.videos.info(path).duration,
    )
    return timeline, list(keyframes.pixels.permute(0, 2, 3, 1).numpy())


def examples(predictions: Sequence[Prediction], source: VideoSource, number: int = EXAMPLES) -> list[Example]:
    """`number` predictions spread evenly over all of them."""
    step = max(1, len(predictions) // number)
    return [example(prediction, source) for prediction in predictions[::step][:number]]
