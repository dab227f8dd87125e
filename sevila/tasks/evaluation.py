"""What an evaluation measures: the benchmark's numbers, moment retrieval; and its records shared among processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import distributed

from sevila.benchmarks import BENCHMARKS
from sevila.benchmarks.base import Answered, Benchmark
from sevila.benchmarks.qvhighlights import moment_row
from sevila.benchmarks.spans import SpanRule, moment_prediction
from sevila.data.dataset import Record, Sample, VideoSource, by_video
from sevila.data.records import Moment, Question
from sevila.data.store_files import row_key
from sevila.errors import UserError, for_others
from sevila.metrics.keyframes import keyframe_span
from sevila.metrics.moments import MomentPrediction, main_metrics, qvhighlights
from sevila.model.prompts import moment_prompt
from sevila.model.sevila import EncodedVideo, ScoredFrame, SeViLA
from sevila.tasks.chain import Prediction, chain_metrics, map_videos


def benchmark_metrics(benchmark: str, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What metrics.json holds after an evaluation on a data set; of a split without answers, n = 0 and no accuracy."""
    metrics = chain_metrics(predictions)
    if not metrics["n"]:
        return metrics
    return {**metrics, **_of(benchmark).evaluate([_answered(prediction) for prediction in predictions])}


def validation_metrics(benchmark: str, predictions: Sequence[Prediction]) -> dict[str, float]:
    """The single numbers among these metrics: what a training logs, and chooses its best head by."""
    return {key: value for key, value in benchmark_metrics(benchmark, predictions).items() if isinstance(value, float)}


def metric_names(benchmark: str, validation: Sequence[Question], voting: bool = False) -> list[str]:
    """What `validation_metrics` will hold for answered questions, the benchmark's official number first.

    voting   whether every keyframe is answered from alone
    """
    names = [_of(benchmark).best, "accuracy"]
    if voting:
        names.append("oracle_any_frame")
    if any(question.windows for question in validation):
        names += ["keyframe_recall", "keyframe_hit", *_of(benchmark).window_metrics]
    return list(dict.fromkeys(names))


def _of(benchmark: str) -> type[Benchmark]:
    return BENCHMARKS.get(benchmark, Benchmark)  # without a name: questions of no data set


def _answered(prediction: Prediction) -> Answered:
    times = [prediction.frames[i].time for i in prediction.keyframes]
    return Answered(prediction.question, prediction.prediction, keyframe_span(times) if times else None)


# -- records shared among the processes of a run: each works on whole videos of its own ---


R = TypeVar("R", bound=Record)
T = TypeVar("T")


def own_places(records: Sequence[R]) -> list[int]:
    """Where this process's records stand among all: those of every N-th video of N processes."""
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if _several() else (0, 1)
    return sorted(place for video in by_video(records)[rank::processes] for place in video)


def by_processes(records: Sequence[R], make: Callable[[list[R]], Sequence[T]]) -> list[T]:
    """What `make` gives for this process's records, one each; then all processes' results, in the records' order.

    All processes call it, and all get it. What one raises ends the others too, with a UserError that says why: none
    waits for a process that is gone.
    """
    places = own_places(records)
    own = [records[place] for place in places]
    if not _several():
        return list(make(own))
    error: Exception | None = None
    made: list[tuple[int, T]] = []
    try:
        made = list(zip(places, make(own), strict=True))
    except Exception as raised:
        error = raised
    fault = "" if error is None else for_others(error)
    among = row_key([record.qid for record in records])
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, (fault, among, made))
    if error is not None:
        raise error
    for other, theirs, _ in parts:
        if other or theirs != among:
            raise UserError(other or "the processes read different records: look at the data's files and start again")
    return [result for _, result in sorted((pair for part in parts for pair in part[2]), key=lambda pair: pair[0])]


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


# -- moment retrieval: every frame's relevance to a query, joined into windows (paper, table 4) ---


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
