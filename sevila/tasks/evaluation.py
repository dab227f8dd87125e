"""What an evaluation measures: the benchmark's numbers, moment retrieval; and its records shared among processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sevila.benchmarks import BENCHMARKS
from sevila.benchmarks.base import Answered, Benchmark
from sevila.benchmarks.qvhighlights import moment_row
from sevila.benchmarks.spans import SpanRule, moment_prediction
from sevila.data.dataset import Record, Sample, VideoSource, by_video
from sevila.data.records import Moment, Question
from sevila.data.store_files import row_key
from sevila.files import json_line, naming
from sevila.metrics.keyframes import keyframe_span
from sevila.metrics.moments import MomentPrediction, main_metrics, qvhighlights
from sevila.model.prompts import moment_prompt
from sevila.model.sevila import EncodedVideo, ScoredFrame, SeViLA
from sevila.processes import check_same, gather_bytes, rank_and_size, several
from sevila.tasks.chain import Prediction, chain_metrics, map_videos

R = TypeVar("R", bound=Record)
Asked = TypeVar("Asked", bound=Record, contravariant=True)
T = TypeVar("T")


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


class Rows(Protocol[Asked, T]):
    """How results travel: as what JSON can say, and back with the record that they are about."""

    def to_row(self, result: T, /) -> Mapping[str, Any]: ...

    def from_row(self, record: Asked, row: Mapping[str, Any], /) -> T: ...


def own_places(records: Sequence[R]) -> list[int]:
    """Where this process's records stand among all: those of every N-th video of N processes."""
    rank, processes = rank_and_size()
    return sorted(place for video in by_video(records)[rank::processes] for place in video)


def by_processes(
    records: Sequence[R], make: Callable[[list[R]], Sequence[T]], rows: Rows[R, T] | None = None
) -> list[T]:
    """What `make` gives for this process's records, one each; then all processes' results, in the records' order.

    All processes call it, and all get it. An error of one is everybody's (`processes.together`).

    rows   how results become JSON; None for those that are JSON
    """
    if not several():
        return list(make(list(records)))
    check_same({"the records": f"{len(records)}, {row_key([record.qid for record in records])[:12]}"})
    places = own_places(records)
    made = make([records[place] for place in places])
    own = [result if rows is None else rows.to_row(result) for result in made]
    parts = gather_bytes(json.dumps(list(zip(places, own, strict=True))).encode())
    found = sorted((pair for part in parts for pair in json.loads(part)), key=lambda pair: pair[0])
    return [row if rows is None else rows.from_row(records[place], row) for place, row in found]


# -- the predictions of an evaluation: whole on the disk, and in memory what metrics look at ---


@dataclass(frozen=True)
class Judged:
    """A prediction as `Prediction.pruned`, and where the whole one stands: in a process's file, from this byte on."""

    prediction: Prediction
    process: int
    byte: int

    def to_row(self) -> dict[str, Any]:
        return {**self.prediction.to_row(), "process": self.process, "byte": self.byte}

    @classmethod
    def from_row(cls, question: Question, row: Mapping[str, Any]) -> Judged:
        return cls(Prediction.from_row(question, row), row["process"], row["byte"])


def judged(predictions: Iterable[tuple[int, Prediction]], folder: Path) -> list[Judged]:
    """Write predictions as they are made, and give what is kept of each, by their places 0 to n - 1."""
    process, _ = rank_and_size()
    kept: dict[int, Judged] = {}
    with lines_of(folder, process).open("wb") as file:
        for place, prediction in predictions:
            kept[place] = Judged(prediction.pruned(), process, file.tell())
            with naming(lines_of(folder, process)):
                file.write(json_line(prediction.to_json()).encode())
    return [kept[place] for place in range(len(kept))]


def lines_of(folder: Path, process: int) -> Path:
    """The file of the lines that a process has made, in its own order."""
    return folder / f"predictions_{process}.jsonl"


class Lines(Sequence[dict[str, Any]]):
    """The rows of predictions.jsonl in the questions' order, each read when it is asked for, inside a `with` block."""

    def __init__(self, folder: Path, found: Sequence[Judged]) -> None:
        self.found = found
        self.files = {process: lines_of(folder, process).open("rb") for process in {each.process for each in found}}

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.close()

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, place: int) -> dict[str, Any]:  # type: ignore[override]
        file = self.files[self.found[place].process]
        file.seek(self.found[place].byte)
        return json.loads(file.readline())


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

    def to_row(self) -> dict[str, Any]:
        """For another process: numbers in full."""
        frames = [[f.index, f.time, f.score] for f in self.frames]
        return {
            "frames": frames,
            "no": self.no,
            "windows": self.prediction.windows,
            "saliency": self.prediction.saliency,
        }

    @classmethod
    def from_row(cls, moment: Moment, row: Mapping[str, Any]) -> Retrieval:
        windows, saliency = row["windows"], row["saliency"]
        prediction = MomentPrediction(
            moment.qid,
            None if windows is None else tuple((start, end, score) for start, end, score in windows),
            None if saliency is None else tuple(saliency),
        )
        return cls(moment, tuple(ScoredFrame(*frame) for frame in row["frames"]), tuple(row["no"]), prediction)


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
