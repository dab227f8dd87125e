"""Localizer pre-training on moment queries: a frame inside a window is a "yes" (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sevila.data.loading import Batch
from sevila.data.records import Moment
from sevila.errors import UserError
from sevila.metrics.keyframes import true_positions
from sevila.metrics.ranking import mean_average_precision
from sevila.model.head import Head
from sevila.model.prompts import moment_prompt
from sevila.model.sevila import SeViLA
from sevila.tasks.encoding import patches_of
from sevila.tasks.share import Share
from sevila.tasks.source import VideoSource

METRIC = "frame_mAP"


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
    """Loss: cross-entropy on "yes" / "no" a frame; evaluation: how well the frames of a window are ranked first."""

    def __init__(self, model: SeViLA, source: VideoSource, validation: Sequence[Moment]) -> None:
        self.model, self.source, self.share = model, source, Share.of(validation)

    @property
    def head(self) -> Head:
        return self.model.localizer.head

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        patches = patches_of(self.model.backbone, batch)
        texts, labels = [], []
        for moment, times in zip(batch.records, batch.times, strict=True):
            texts += [moment_prompt(moment.query)] * len(times)
            labels += frame_labels(times, moment)
        loss = self.model.localizer.loss(patches[batch.mask.to(patches.device)], texts, labels)
        return loss, {"yes_share": sum(labels) / len(labels)}

    def evaluate(self) -> dict[str, float]:
        """`frame_mAP`: mean average precision of the frames by relevance, over queries with a true frame, percent."""
        return {METRIC: mean_average_precision(self.share.work(self._ranked))}

    def _ranked(self, queries: Sequence[Moment]) -> list[tuple[list[float], list[bool]]]:
        """Of every query its frames' scores, and which of them are true."""
        ranked: dict[int, tuple[list[float], list[bool]]] = {}
        for rows, sample in self.source.walk(queries):
            patches = patches_of(self.model.backbone, sample)
            scores = self.model.relevance(patches, [moment_prompt(queries[row].query) for row in rows]).tolist()
            for row, values in zip(rows, scores, strict=True):
                ranked[row] = values, frame_labels(sample.frames.times, queries[row])
        return [ranked[row] for row in range(len(queries))]
