"""Reverse-chain refinement: the frozen Answerer labels frames, the Localizer learns the labels (paper, section 3.3).

A frame is a "yes" for a question when the Answerer, seeing that frame alone, prefers the right option. The Answerer
is in evaluation mode: no dropout. Which frames are labelled there are two ways to choose:

- as published: a few random frames of the whole video in each step, labelled in that step (`LabelEachStep`);
- this project's: the frames that an evaluation would take, labelled once and stored in the run folder, of which each
  epoch draws some (`make_pseudo_labels`, `LabelledFrames`, `LabelledBefore`). A small training set costs less so.

From a frame that shows no answer the Answerer guesses, and is right once in so many options. Not of the paper: `orders`
asks again with the options turned round, and a frame stays a "yes" only while the Answerer is right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from sevila.data.dataset import Batch, Sample, VideoSource, patches_of
from sevila.data.records import Question, Window
from sevila.data.sampling import PLAIN, FrameKey, TrainingFrames, random_indices
from sevila.data.video import VideoInfo
from sevila.errors import UserError
from sevila.metrics.choice import percent
from sevila.metrics.keyframes import true_positions
from sevila.model.device import taken
from sevila.model.head import Head
from sevila.model.language import Direct
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.tasks import cache
from sevila.tasks.batches import frames_of
from sevila.tasks.chain import ForwardChain, Prediction, Stored, map_videos, need_answers, true_answers
from sevila.tasks.evaluation import by_processes, validation_metrics


@dataclass(frozen=True)
class PseudoLabels:
    """The labelled frames of one question: frame numbers, seconds, and whether the Answerer was right."""

    qid: str
    indices: tuple[int, ...]
    times: tuple[float, ...]
    labels: tuple[bool, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "qid": self.qid,
            "indices": list(self.indices),
            "times": [round(time, 3) for time in self.times],
            "labels": [int(label) for label in self.labels],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> PseudoLabels:
        """KeyError, TypeError or ValueError for a row that says something else."""
        indices, times, labels = (tuple(row[key]) for key in ("indices", "times", "labels"))
        if not len(indices) == len(times) == len(labels) > 0:
            raise ValueError(f"{len(indices)} frames, {len(times)} times, {len(labels)} labels")
        if not all(type(index) is int and index >= 0 for index in indices) or not set(labels) <= {0, 1}:
            raise ValueError("no frame numbers, or labels other than 0 and 1")
        return cls(row["qid"], indices, tuple(map(float, times)), tuple(map(bool, labels)))

    @classmethod
    def from_row(cls, question: Question, row: Mapping[str, Any]) -> PseudoLabels:
        """A line that was made for a question of the same content, whatever its name."""
        return cls.from_json({**row, "qid": question.qid})


def make_pseudo_labels(
    model: SeViLA, source: VideoSource, questions: Sequence[Question], orders: int = 1
) -> list[PseudoLabels]:
    """Label the n sampled frames of every question, in the questions' order. The heads must be in eval mode.

    Where the source has a store, labels that this Answerer gave before are read from it.

    orders   as of `right_alone`
    """
    need_answers(questions)

    def make(encoded: EncodedVideo, places: list[int], _: Sample) -> Iterator[PseudoLabels]:
        soft = model.answerer.head(encoded.patches)  # [T, Q, Dl], once for all questions about the video
        asked = [questions[place] for place in places]
        alone = right_alone(model, [soft] * len(asked), [[question] * len(encoded) for question in asked], orders)
        for question, right in zip(asked, alone, strict=True):
            yield PseudoLabels(question.qid, encoded.indices, encoded.times, tuple(right))

    stored = None
    if source.store is not None:
        table = cache.labels(model, source, source.store, orders)
        stored = Stored(table, PseudoLabels.to_json, PseudoLabels.from_row)
    return map_videos(model, source, questions, make, "pseudo-labels", stored)


@torch.no_grad()
def right_alone(
    model: SeViLA, soft: Sequence[Tensor], questions: Sequence[Sequence[Question]], orders: int = 1
) -> list[list[bool]]:
    """Of groups of N frames, each with a question of its own: is the frozen Answerer right from that frame alone?

    This is the paper's pseudo-label (section 3.3, figure 3, right). soft [N, Q, Dl] of each group, whose rows share
    passes.

    orders   in how many cyclic orders of its options a question is asked, never more than it has options; the paper: 1
    """
    right = [[True] * len(group) for group in questions]
    for first in range(orders):
        left = {
            place: [i for i, question in enumerate(group) if right[place][i] and first < len(question.options)]
            for place, group in enumerate(questions)
        }
        left = {place: rows for place, rows in left.items() if rows}
        asked = [[_turned(model, questions[place][i], first) for i in rows] for place, rows in left.items()]
        # as published "Option" is given, and the letter is the model's
        logits = model.frame_logits(
            [next(taken(soft[place], [rows])) for place, rows in left.items()],
            [[text for text, _ in group] for group in asked],
            [[len(questions[place][i].options) for i in rows] for place, rows in left.items()],
            Direct(),
        )
        for (place, rows), group, found in zip(left.items(), asked, logits, strict=True):
            for i, option, (_, answer) in zip(rows, found.argmax(-1).tolist(), group, strict=True):
                right[place][i] = option == answer
    return right


def _turned(model: SeViLA, question: Question, first: int) -> tuple[str, int]:
    """The Answerer's prompt with option number `first` as option A, and the number of the right option then."""
    options = [*question.options[first:], *question.options[:first]]
    (answer,) = true_answers([question])
    return model.prompts.answer(question.question, options), (answer - first) % len(options)


def window_labels(source: VideoSource, questions: Sequence[Question]) -> list[PseudoLabels]:
    """True labels of every question's n sampled frames, in the questions' order: "yes" inside a window, ends included.

    No benchmark that SeViLA trains on has windows: what they give is the ceiling of self-refinement, not a method.
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
            inside_each = tuple(i in inside for i in range(len(times)))
            labels[row] = PseudoLabels(questions[row].qid, indices, times, inside_each)
    return [labels[row] for row in range(len(questions))]


def label_metrics(labels: Sequence[PseudoLabels], questions: Sequence[Question]) -> dict[str, float]:
    """Share of "yes" labels and, where true windows are known, the labels' precision and recall; percent."""
    yes = total = right = true = 0
    known = False
    for label, question in zip(labels, questions, strict=True):
        yes += sum(label.labels)
        total += len(label.labels)
        if question.windows is not None:
            known = True
            inside = true_positions(label.times, question.windows)
            true += len(inside)
            right += sum(label.labels[i] for i in inside)
    out = {"pseudo_label_yes": percent(yes, total)}
    if known:
        out["pseudo_label_precision"] = percent(right, yes) if yes else 0.0
        out["pseudo_label_recall"] = percent(right, true) if true else 0.0
    return out


@dataclass(frozen=True)
class LabelledFrames(TrainingFrames):
    """A frame rule, ours: n of the labelled frames of each question, drawn anew in every epoch.

    Used with the questions in the order of `labels`. Evenly segmented like the published training frames, but over
    the frames that have labels.
    """

    labels: Sequence[PseudoLabels] = field(kw_only=True)

    def indices(self, video: VideoInfo, clip: Window | None, key: FrameKey) -> list[int]:
        known = self.labels[key[1]].indices
        rng = random.Random(f"labelled:{self.seed}:{key[0]}:{key[1]}")
        return [known[place] for place in random_indices(len(known), 1.0, self.n_frames, rng=rng)]

    def view(self, size: int, key: FrameKey) -> str | None:
        return None if self.crop else PLAIN  # few frames have labels: each comes again soon


class FrameLabels(Protocol):
    def of(self, batch: Batch, patches: Tensor) -> list[bool]:
        """Is a frame a "yes"? One label for each of the batch's F frames, row by row; their patches [F, P, Dv]."""
        ...


class LabelledBefore:
    """The batch's frames are among those that were labelled before the training."""

    def __init__(self, labels: Sequence[PseudoLabels]) -> None:
        self.table = {label.qid: dict(zip(label.indices, label.labels, strict=True)) for label in labels}

    def of(self, batch: Batch, patches: Tensor) -> list[bool]:
        """The labels of the batch's F frames; patches [F, P, Dv] are not needed."""
        rows = zip(batch.questions, batch.indices, strict=True)
        return [self.table[question.qid][index] for question, indices in rows for index in indices]


@dataclass(frozen=True)
class LabelEachStep:
    """As published: the frozen Answerer labels the frames of every batch, as they were drawn and cropped.

    orders   as of `right_alone`
    """

    model: SeViLA
    orders: int = 1

    @torch.no_grad()
    def of(self, batch: Batch, patches: Tensor) -> list[bool]:
        """[F, P, Dv] -> F labels."""
        asked = [question for question, row in zip(batch.questions, batch.indices, strict=True) for _ in row]
        return right_alone(self.model, [self.model.answerer.head(patches)], [asked], self.orders)[0]


class RefineTask:
    """Loss: cross-entropy on the pseudo-labels; evaluation: the forward chain with the Localizer as it stands."""

    def __init__(
        self, chain: ForwardChain, validation: Sequence[Question], labels: FrameLabels, benchmark: str = ""
    ) -> None:
        self.chain, self.validation, self.labels = chain, validation, labels
        self.model, self.benchmark = chain.model, benchmark

    @property
    def head(self) -> Head:
        return self.model.localizer.head

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Scalar: the mean over the batch's F frames, one row of the Localizer each ([F, P, Dv] patches).

        Also logged: `yes_share`, the share of the frames that are labelled "yes", and where true windows are known
        `yes_precision`, the share of those that lie in a window.
        """
        patches = patches_of(self.model.backbone, batch)  # [B, T, P, Dv]
        frames = frames_of(batch, patches)  # without padding
        prompts = self.model.localizer_prompts(batch.questions)
        texts = [text for text, row in zip(prompts, batch.indices, strict=True) for _ in row]
        # the frozen Answerer's verdict on each frame alone is what the Localizer learns to say
        labels = self.labels.of(batch, frames)
        numbers = {"yes_share": sum(labels) / len(labels), **_precision(batch, labels)}
        return self.model.localizer.loss(frames, texts, labels), numbers

    def evaluate(self) -> dict[str, float]:
        predictions = by_processes(self.validation, lambda own: self.chain.predict(own, "validation"), Prediction)
        return validation_metrics(self.benchmark, predictions)


def _precision(batch: Batch, labels: Sequence[bool]) -> dict[str, float]:
    """`yes_precision` of a batch's labels; empty where no question that has windows has a "yes"."""
    rest, inside, yes = iter(labels), 0, 0
    for question, times in zip(batch.questions, batch.times, strict=True):
        own = list(islice(rest, len(times)))
        if question.windows is not None:
            yes += sum(own)
            inside += sum(own[i] for i in true_positions(times, question.windows))
    return {"yes_precision": inside / yes} if yes else {}
