"""Predictions as pictures, for report pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from sevila.data.records import Question
from sevila.data.video import VideoReader
from sevila.report.page import write_page
from sevila.report.timeline import Timeline, draw_timeline, save_png, timeline_picture

EXAMPLES = 6
THUMBNAIL = 160  # pixels a side, or the video's own size where that is smaller

T = TypeVar("T")
Example = tuple[Timeline, list[np.ndarray]]


class Folder(Protocol):
    def path(self, video: str) -> Path: ...


def example(question: Question, row: Mapping[str, Any], reader: VideoReader) -> Example:
    """The timeline of a prediction, a line of predictions.jsonl, and its keyframes [H, W, 3], uint8."""
    size = min(THUMBNAIL, max(reader.info.width, reader.info.height))
    frames = row["frames"]
    places = {frame["index"]: i for i, frame in enumerate(frames)}
    chosen = [frame["index"] for frame in row["keyframes"]]
    scores = [frame["score"] for frame in frames]
    timeline = Timeline(
        question=question.question,
        options=question.options,
        prediction=row["prediction"],
        answer=question.answer,
        probabilities=torch.tensor(row["option_logits"]).softmax(-1).tolist(),
        times=[frame["time"] for frame in frames],
        scores=None if None in scores else scores,
        keyframes=[places[index] for index in chosen],
        windows=question.windows,
        duration=reader.info.duration,
    )
    return timeline, list(reader.read(chosen, size).pixels.permute(0, 2, 3, 1).numpy())


def examples(
    questions: Sequence[Question], rows: Sequence[Mapping[str, Any]], folder: Folder, number: int = EXAMPLES
) -> list[Example]:
    """`number` of the predictions, spread evenly over all of them; `rows` are the questions' in their order."""
    pairs = spread(list(zip(questions, rows, strict=True)), number)
    return [example(question, row, VideoReader(folder.path(question.video))) for question, row in pairs]


def write_answer(path: Path, shown: Example) -> None:
    """Write an answered question to FILE.png or FILE.html."""
    timeline, images = shown
    if path.suffix == ".png":
        save_png(draw_timeline(timeline, images), path)
    else:
        write_page(path, timeline.question, [timeline_picture(timeline, images)])


def spread(items: Sequence[T], number: int) -> Sequence[T]:
    """`number` of the items, or all where there are fewer, spread evenly."""
    step = max(1, len(items) // number)
    return items[::step][:number]
