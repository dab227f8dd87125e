"""Localizer pre-training on moment queries: a frame inside a window is a "yes" (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sevila.data.dataset import Batch, VideoSource, patches_of
from sevila.data.records import Moment
from sevila.errors import UserError
from sevila.metrics.choice import percent
from sevila.metrics.keyframes import mean_average_precision, true_positions
from sevila.model.head import Head
from sevila.model.prompts import moment_prompt
from sevila.model.sevila import SeViLA
from sevila.tasks.share import Share

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
    """Loss: cross-entropy on "yes" / "no" a frame; evaluation: is that said of the right frames?"""

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
        """How well the Localizer tells true frames from others, in percent.

        frame_accuracy   share of all frames of which it says "yes" or "no" rightly, a draw being a "no"; official
        frame_mAP        mean average precision of the frames by relevance, over queries with a true frame
        """
        known = [query for query in self.share.work(self._said) if query is not None]
        right = [(yes > no) == label for query in known for yes, no, label in zip(*query, strict=True)]
        ranked = ((yes, labels) for yes, _, labels in known)
        return {"frame_accuracy": percent(sum(right), len(right)), "frame_mAP": mean_average_precision(ranked)}

    def _said(self, queries: Sequence[Moment]) -> list[tuple[list[float], list[float], list[bool]] | None]:
        """Of every query its frames' logits of "yes" and of "no", and which are true; None where windows are hidden."""
        said: dict[int, tuple[list[float], list[float], list[bool]]] = {}
        for rows, sample in self.source.walk(queries, "validation"):
            patches = patches_of(self.model.backbone, sample)
            logits = self.model.yes_no(patches, [moment_prompt(queries[row].query) for row in rows])
            for row, frames in zip(rows, logits, strict=True):
                if queries[row].windows is not None:
                    yes, no = frames.T.tolist()
                    said[row] = yes, no, frame_labels(sample.frames.times, queries[row])
        return [said.get(row) for row in range(len(queries))]
