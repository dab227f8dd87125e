"""The numbers of an evaluation: those that every one has, and those that the benchmark's tables print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sevila.benchmarks import BENCHMARKS
from sevila.benchmarks.base import Answered, Benchmark
from sevila.data.records import Question
from sevila.metrics.grounding import keyframe_span
from sevila.tasks.chain import Prediction, chain_metrics


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
