"""Labels from the true windows of a question, in the place of the Answerer's: how far can a Localizer be trained?

No benchmark that SeViLA trains on has such windows: what this gives is the ceiling of self-refinement, not a method.
"""

from __future__ import annotations

from collections.abc import Sequence

from sevila.data.dataset import VideoSource
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.metrics.keyframes import true_positions
from sevila.tasks.refine import PseudoLabels


def window_labels(source: VideoSource, questions: Sequence[Question]) -> list[PseudoLabels]:
    """Label the n sampled frames of every question, in the questions' order: "yes" inside a window, ends included.

    UserError where a question's windows are not known.
    """
    unknown = [question.qid for question in questions if question.windows is None]
    if unknown:
        raise UserError(f"task.name=windows: {len(unknown)} questions have no windows (such as {unknown[0]})")
    labels: dict[int, PseudoLabels] = {}
    for rows, sample in source.walk(questions, "frames in windows"):
        indices, times = sample.frames.indices, sample.frames.times
        for row in rows:
            inside = set(true_positions(times, questions[row].windows))
            labels[row] = PseudoLabels(
                questions[row].qid, indices, times, tuple(i in inside for i in range(len(times)))
            )
    return [labels[row] for row in range(len(questions))]
