"""Predictions as parts of a report page: what was asked, answered and found, with pictures of the keyframes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from einops import rearrange

from sevila.data.folders import Videos
from sevila.data.records import Moment, Question
from sevila.data.video import VideoReader
from sevila.report.page import Block, Facts, Heading, write_page
from sevila.report.timeline import Example, Timeline

EXAMPLES = 6  # of the right answers, and of the wrong ones
THUMBNAIL = 320  # pixels of the longer side, or the video's own where that is smaller
BEST_FRAMES = 4  # of a query, where no keyframes are chosen

T = TypeVar("T")


def example(question: Question, row: Mapping[str, Any], reader: VideoReader) -> Example:
    """A question with its prediction, a line of predictions.jsonl. UserError where its frames cannot be read."""
    frames = row["frames"]
    places = {frame["index"]: i for i, frame in enumerate(frames)}
    scores = [frame["score"] for frame in frames]
    keyframes = [frame["index"] for frame in row["keyframes"]]
    timeline = Timeline(
        question=question.question,
        options=question.options,
        prediction=row["prediction"],
        answer=question.answer,
        probabilities=torch.tensor(row["option_logits"]).softmax(-1).tolist(),
        times=[frame["time"] for frame in frames],
        scores=None if None in scores else scores,
        keyframes=[places[index] for index in keyframes],
        windows=question.windows,
        duration=reader.info.duration,
        label=f"{question.qid}, {question.video}",
        video=reader.path,
    )
    return Example(timeline, thumbnails(reader, keyframes))


def examples(
    questions: Sequence[Question], rows: Sequence[Mapping[str, Any]], folder: Videos, number: int = EXAMPLES
) -> list[Block]:
    """`number` of the wrong and of the right predictions, spread evenly; `rows` are the questions' in their order."""
    options = [row["prediction"] for row in rows]  # rows may come from a disk: they are not held
    pairs = list(zip(questions, options, strict=True))
    wrong = [i for i, (question, option) in enumerate(pairs) if question.answer not in (None, option)]
    right = [i for i, (question, option) in enumerate(pairs) if question.answer == option]
    hidden = [i for i, question in enumerate(questions) if question.answer is None]
    blocks: list[Block] = []
    for name, part in (("Answered wrongly", wrong), ("Answered rightly", right), ("Answered, not judged", hidden)):
        if part:
            blocks.append(Heading(f"{name}: {len(part)} of {len(pairs)}"))
            blocks += [_opened(questions[i], rows[i], folder) for i in spread(part, number)]
    return blocks


def _opened(question: Question, row: Mapping[str, Any], folder: Videos) -> Example:
    return example(question, row, VideoReader(folder.path(question.video)))


def moment_examples(
    moments: Sequence[Moment], rows: Sequence[Mapping[str, Any]], folder: Videos, number: int = EXAMPLES
) -> list[Block]:
    """`number` of the queries, spread evenly: true and found windows against the frames' scores, and the best frames.

    rows   lines of predictions.jsonl, in the queries' order
    """
    chosen = spread(list(zip(moments, rows, strict=True)), number)
    blocks: list[Block] = [Heading(f"Queries: {len(chosen)} of {len(moments)}")] if chosen else []
    return [*blocks, *(_moment_example(moment, row, folder) for moment, row in chosen)]


def _moment_example(moment: Moment, row: Mapping[str, Any], folder: Videos) -> Example:
    file = folder.path(moment.video)
    reader = VideoReader(file)
    frames = row["frames"]
    scores = [frame["score"] for frame in frames]
    best = sorted(range(len(frames)), key=lambda i: -scores[i])[:BEST_FRAMES]
    timeline = Timeline(
        question=moment.query,
        options=(),
        prediction=None,
        answer=None,
        probabilities=(),
        times=[frame["time"] for frame in frames],
        scores=scores,
        keyframes=best,
        windows=moment.windows,
        duration=moment.duration,
        label=f"{moment.qid}, {moment.video}",
        found=[(start, end) for start, end, *_ in row.get("pred_relevant_windows", ())],
        video=file,
    )
    return Example(timeline, thumbnails(reader, [frames[i]["index"] for i in best]))


def write_answer(path: Path, shown: Example, facts: Mapping[str, str] | None = None) -> None:
    """Write an answered question to FILE.png or FILE.html, under its video's name; facts stand on a page only."""
    from sevila.report.figures import draw_example, save_png

    video = shown.timeline.video
    timeline = replace(shown.timeline, label="" if video is None else video.name)
    if path.suffix == ".png":
        save_png(draw_example(Example(timeline, shown.images)), path)
    else:
        parts: list[Block] = [Example(timeline, shown.images, asks=False)]
        write_page(path, timeline.question, [*parts, Facts(facts)] if facts else parts)


def thumbnails(reader: VideoReader, indices: Sequence[int]) -> list[np.ndarray]:
    """The frames at these numbers, in the order given, small and in their own aspect ratio: uint8 [H, W, 3] each."""
    return list(np.ascontiguousarray(rearrange(reader.pictures(indices, THUMBNAIL), "t c h w -> t h w c").numpy()))


def spread(items: Sequence[T], number: int) -> Sequence[T]:
    """`number` of the items, or all where there are fewer, spread evenly."""
    step = max(1, len(items) // number)
    return items[::step][:number]
