"""Localizer pre-training on moment queries: a frame inside a window is a "yes" (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from sevila.data.dataset import Batch, Sample, VideoSource, patches_of
from sevila.data.records import Moment
from sevila.errors import UserError
from sevila.metrics.choice import percent
from sevila.metrics.keyframes import mean_average_precision, true_positions
from sevila.model.head import Head
from sevila.model.prompts import moment_prompt
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.tasks.batches import frames_of
from sevila.tasks.chain import map_videos
from sevila.tasks.evaluation import by_processes

METRICS = ("frame_accuracy", "frame_mAP")  # the official one first


def need_windows(moments: Sequence[Moment], validation: Sequence[Moment]) -> None:
    """UserError where the windows of a training query are hidden, or those of all validation queries."""
    hidden = [moment.qid for moment in moments if moment.windows is None]
    if hidden:
        raise UserError(f"{len(hidden)} queries have no windows (such as {hidden[0]}): train on a split with windows")
    if not any(moment.windows for moment in validation):
        raise UserError(
            f"data.val: none of its {len(validation)} queries has a window, and the best head is chosen by them; "
            "name a file with windows"
        )


def frame_labels(times: Sequence[float], moment: Moment) -> list[bool]:
    """Of each frame, whether it lies in a window, ends included."""
    inside = set(true_positions(times, moment.windows))
    return [i in inside for i in range(len(times))]


class PretrainTask:
    """Loss: cross-entropy on "yes" / "no" a frame; evaluation: of which frames is "yes" the likelier word?"""

    def __init__(self, model: SeViLA, source: VideoSource, validation: Sequence[Moment]) -> None:
        self.model, self.source, self.validation = model, source, validation

    @property
    def head(self) -> Head:
        return self.model.localizer.head

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Scalar: the mean over the batch's F frames, one row of the Localizer each. Also logged: `yes_share`."""
        patches = patches_of(self.model.backbone, batch)  # [B, T, P, Dv]
        texts, labels = [], []
        for moment, times in zip(batch.moments, batch.times, strict=True):
            texts += [moment_prompt(moment.query)] * len(times)
            labels += frame_labels(times, moment)
        frames = frames_of(batch, patches)  # [F, P, Dv], without padding
        loss = self.model.localizer.loss(frames, texts, labels)
        return loss, {"yes_share": sum(labels) / len(labels)}

    def evaluate(self) -> dict[str, float]:
        """How well the Localizer tells true frames from others, in percent.

        frame_accuracy   share of all frames of which it says "yes" or "no" rightly, a draw being a "no"; official
        frame_mAP        mean average precision of the frames by relevance, over queries with a true frame
        """
        known = [query for query in by_processes(self.validation, self._answers) if query is not None]
        right = [(yes > no) == label for query in known for yes, no, label in zip(*query, strict=True)]
        ranked = ((yes, labels) for yes, _, labels in known)
        return {"frame_accuracy": percent(sum(right), len(right)), "frame_mAP": mean_average_precision(ranked)}

    def _answers(self, queries: Sequence[Moment]) -> list[tuple[list[float], list[float], list[bool]] | None]:
        """Of every query its frames' logits of "yes" and of "no", and which are true; None where windows are hidden."""

        def make(encoded: EncodedVideo, places: list[int], _: Sample) -> Iterator[Any]:
            asked = [queries[place] for place in places]
            logits = self.model.yes_no(encoded.patches, [moment_prompt(query.query) for query in asked])
            for query, frames in zip(asked, logits, strict=True):
                yes, no = frames.T.tolist()
                yield None if query.windows is None else (yes, no, frame_labels(encoded.times, query))

        return map_videos(self.model, self.source, queries, make, "validation")
