"""Moment retrieval with the Localizer: every frame's relevance to a query, joined into windows (paper, table 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sevila.benchmarks.qvhighlights import moment_row
from sevila.benchmarks.spans import SpanRule, moment_prediction
from sevila.data.dataset import Sample, VideoSource
from sevila.data.records import Moment
from sevila.metrics.moments import MomentPrediction, main_metrics, qvhighlights
from sevila.model.prompts import moment_prompt
from sevila.model.sevila import EncodedVideo, ScoredFrame, SeViLA
from sevila.tasks.chain import map_videos


@dataclass(frozen=True)
class Retrieval:
    """A query, the scored frames of its video, each one's logit of "no" too, and what was made of them."""

    moment: Moment
    frames: tuple[ScoredFrame, ...]
    no: tuple[float, ...]
    prediction: MomentPrediction

    def to_json(self) -> dict[str, Any]:
        """A line of predictions.jsonl: a line of QVHighlights' submission, and of every frame the two logits.

        `score` is that of "yes", as everywhere; a frame is a "yes" where it is higher than `no`.
        """
        frames = [
            {"index": f.index, "time": round(f.time, 3), "score": float(f"{f.score:.6g}"), "no": float(f"{no:.6g}")}
            for f, no in zip(self.frames, self.no, strict=True)
        ]
        return {**moment_row(self.moment, self.prediction), "frames": frames}


def retrieve(model: SeViLA, source: VideoSource, moments: Sequence[Moment], rule: SpanRule) -> list[Retrieval]:
    """Windows and saliency of every query, in the queries' order; each video is decoded and encoded once."""

    def make(encoded: EncodedVideo, places: list[int], _: Sample) -> Iterator[Retrieval]:
        asked = [moments[place] for place in places]
        logits = model.yes_no(encoded.patches, [moment_prompt(moment.query) for moment in asked])  # [M, T, 2]
        for moment, (yes, no) in zip(asked, logits.transpose(1, 2).tolist(), strict=True):
            prediction = moment_prediction(moment, yes, no, encoded.times, rule)
            yield Retrieval(moment, encoded.frames(yes), tuple(no), prediction)

    return map_videos(model, source, moments, make, "moments by video")


def moment_metrics(retrievals: Sequence[Retrieval]) -> dict[str, Any]:
    """What metrics.json holds: R1, mAP and highlight numbers over the queries whose windows are known, and n."""
    known = [r for r in retrievals if r.moment.windows is not None]
    if not known:
        return {"n": 0}
    results = qvhighlights([r.moment for r in known], [r.prediction for r in known])
    return {**main_metrics(results), "n": len(known)}
