"""The numbers that a benchmark's tables print, beside those that every evaluation has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sevila.data.records import Question
from sevila.metrics.choice import Choice, accuracy_by_type, mean_over_types
from sevila.metrics.grounding import Grounding, grounding
from sevila.metrics.nextqa import GROUPS
from sevila.submissions.spans import keyframe_span
from sevila.tasks.chain import Prediction, chain_metrics

Numbers = Callable[[Sequence[Prediction]], dict[str, Any]]


def _choices(predictions: Sequence[Prediction]) -> list[Choice]:
    return [Choice(p.question.answer, p.prediction, p.question.qtype) for p in predictions]


def nextqa(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """NExT-QA: the types, then causal (C), temporal (T) and descriptive (D) questions together."""
    return {"accuracy_by_type": accuracy_by_type(_choices(predictions), GROUPS)}


def star(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """STAR: the mean of the types' accuracies, which its tables call "Avg."."""
    return {"mean_over_types": mean_over_types(_choices(predictions))}


def nextgqa(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """NExT-GQA: as NExT-QA, and the span from the first to the last keyframe against the true segments."""
    grounded = [
        Grounding(
            keyframe_span([{"time": p.frames[i].time} for i in p.keyframes]),
            p.question.windows,
            p.prediction == p.question.answer,
        )
        for p in predictions
        if p.question.windows is not None
    ]
    spans = {name: round(value, 2) for name, value in grounding(grounded).items()} if grounded else {}
    return {**nextqa(predictions), **spans}


NUMBERS: dict[str, Numbers] = {"nextqa": nextqa, "star": star, "nextgqa": nextgqa}
OFFICIAL = {"star": "mean_over_types"}  # what a benchmark's tables rank by, where it is not the accuracy
GROUNDING = ("Acc@GQA", "mIoP", "TIoP@0.3", "TIoP@0.5", "mIoU", "TIoU@0.3", "TIoU@0.5")


def benchmark_metrics(benchmark: str, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What metrics.json holds after an evaluation on a data set; of a split without answers, n = 0 and no accuracy."""
    metrics = chain_metrics(predictions)
    own = NUMBERS.get(benchmark)
    if own is None or not metrics["n"]:
        return metrics
    return {**metrics, **own(predictions)}


def validation_metrics(benchmark: str, predictions: Sequence[Prediction]) -> dict[str, float]:
    """The single numbers among these metrics: what a training logs, and chooses its best head by."""
    return {key: value for key, value in benchmark_metrics(benchmark, predictions).items() if isinstance(value, float)}


def metric_names(benchmark: str, validation: Sequence[Question], voting: bool = False) -> list[str]:
    """What `validation_metrics` will hold for answered questions, the benchmark's official number first.

    voting   whether every keyframe is answered from alone
    """
    names = [OFFICIAL.get(benchmark, "accuracy"), "accuracy"]
    if voting:
        names.append("oracle_any_frame")
    if any(question.windows for question in validation):
        names += ["keyframe_recall", "keyframe_hit", *(GROUNDING if benchmark == "nextgqa" else ())]
    return list(dict.fromkeys(names))
