"""Moment retrieval (MR) and highlight detection (HL) as QVHighlights measures them.

The definitions are those of moment_detr's standalone_eval (eval.py and utils.py, jayleicn/moment_detr), and so
are the names of the results. Times are in seconds, results in percent with two decimals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from sevila.data.records import Moment, Window
from sevila.errors import UserError

ScoredWindow = tuple[float, float, float]  # start and end in seconds, score: higher is better

CLIP_SECONDS = 2  # saliency is annotated for every clip of this length
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # 0.5, 0.55 ... 0.95
MAX_WINDOWS = 10  # of a query's predicted windows the first so many count
RANGES = {"short": (0, 10), "middle": (10, 30), "long": (30, 150)}  # seconds; above the first, up to the second
SALIENCY_LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}  # a highlight is a clip of at least this score


@dataclass(frozen=True)
class MomentPrediction:
    """What was predicted for one query; None for what was not.

    windows    in the order they are listed: the first one is the answer that R1 judges. One that ends before it starts
               overlaps nothing: a miss, as in the script (also where that divides 0 by 0)
    saliency   a score for every clip of two seconds, in time order
    """

    qid: str
    windows: tuple[ScoredWindow, ...] | None = None
    saliency: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        numbers = [number for window in self.windows or () for number in window] + list(self.saliency or ())
        if not all(isfinite(number) for number in numbers):
            raise UserError(f"query {self.qid}: a predicted number is not finite")

    @property
    def backwards(self) -> int:
        """How many windows end before they start."""
        return sum(start > end for start, end, _ in self.windows or ())


@dataclass(frozen=True)
class _Query:
    truth: Moment
    prediction: MomentPrediction


def qvhighlights(truth: Sequence[Moment], predictions: Sequence[MomentPrediction]) -> dict[str, Any]:
    """All numbers of the official script, nested and named as it writes them; "brief" holds the main ones.

    Scored are the queries that have a prediction, as the script does with match_number=False: a query without
    one is in no mean. (Whoever wants them all checks for that first, as `sevila.score` does by default.)

    MR-R1@t      share of queries whose *first-listed* window has an IoU of at least t with the true window that
                 it overlaps most
    MR-mAP@t     mean over queries of the interpolated average precision of the first ten listed windows, sorted
                 by score; a true window is found once, by the best-ranked window whose IoU reaches t
    MR-mAP       mean over the ten thresholds 0.5, 0.55 ... 0.95
    short, middle, long   the same over the queries that have true windows of such a length, other windows left out
    HL-min-L-mAP   mean over queries *and annotators* of the average precision of saliency at level L
    HL-min-L-Hit1  share of queries whose highest clip is a highlight for at least one annotator; the first of
                   equals counts, a clip past the end does not
    Scores of another length than the video's clips are cut, or filled up with zeros.

    A query with an empty list of windows counts as not found (the script fails there). Without annotated saliency
    there are no HL numbers. UserError where queries differ in what is predicted or annotated, where the true
    windows are hidden, and for a query that is not in `truth`.
    """
    queries = _matched(truth, predictions)
    results: dict[str, Any] = {}
    if queries[0].prediction.windows is not None:
        results |= _moment_retrieval(queries)
    if queries[0].prediction.saliency is not None and queries[0].truth.saliency is not None:
        results |= _highlights(queries)
    return {"brief": _brief(results), **results}


def main_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """The keys of metrics.json from the results of `qvhighlights`: R1@0.5, R1@0.7, mAP, mAP@0.5, mAP@0.75, HL-..."""
    return {name.removeprefix("MR-full-"): value for name, value in results["brief"].items()}


def _matched(truth: Sequence[Moment], predictions: Sequence[MomentPrediction]) -> list[_Query]:
    by_qid = {moment.qid: moment for moment in truth}
    if len(by_qid) < len(truth):
        raise UserError(f"{len(truth) - len(by_qid)} queries have the id of another one")
    if not predictions:
        raise UserError("no predictions: nothing to score")
    kinds = {(p.windows is not None, p.saliency is not None): p.qid for p in predictions}
    if len(kinds) > 1 or (False, False) in kinds:
        listed = ", ".join(kinds.values())
        raise UserError(f"queries {listed}: every prediction needs windows, or every one saliency scores, or both")
    queries, seen = [], set()
    for prediction in predictions:
        moment = by_qid.get(prediction.qid)
        if moment is None:
            raise UserError(f"query {prediction.qid}: not among the annotations")
        if prediction.qid in seen:
            raise UserError(f"query {prediction.qid}: predicted twice")
        seen.add(prediction.qid)
        if not moment.windows:
            raise UserError(f"query {moment.qid}: its windows are not known: use a split that has them")
        queries.append(_Query(moment, prediction))
    if len({query.truth.saliency is None for query in queries}) > 1:
        raise UserError("the annotators' saliency is known for some of the queries only")
    return queries


# -- moment retrieval ---


def _moment_retrieval(queries: Sequence[_Query]) -> dict[str, Any]:
    results = {"full": _retrieval([(q.prediction.windows or (), q.truth.windows or ()) for q in queries])}
    for name, (low, high) in RANGES.items():
        pairs = []
        for query in queries:
            # true windows of this length; a query that has none is in no mean of the range, predictions all stay
            inside = [window for window in query.truth.windows or () if low < window[1] - window[0] <= high]
            if inside:
                pairs.append((query.prediction.windows or (), inside))
        if pairs:
            results[name] = _retrieval(pairs)
    return results


def _retrieval(pairs: Sequence[tuple[Sequence[ScoredWindow], Sequence[Window]]]) -> dict[str, dict[str, float]]:
    names = [str(threshold) for threshold in IOU_THRESHOLDS]
    # compute_mr_ap: each query by itself, then the mean over queries at every threshold, then over the thresholds
    precisions = np.array([_average_precisions(predicted, truth) for predicted, truth in pairs]).mean(0)
    # compute_mr_r1: the first-listed window alone, whatever its score
    first = np.array([_first_overlap(predicted, truth) for predicted, truth in pairs])
    found = [float(np.mean(first >= threshold)) for threshold in IOU_THRESHOLDS]
    return {
        "MR-mAP": {
            **{name: _percent(value) for name, value in zip(names, precisions, strict=True)},
            "average": _percent(np.mean(precisions)),
        },
        "MR-R1": {name: _percent(value) for name, value in zip(names, found, strict=True)},
    }


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    shared = _overlap(a, b)
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union else 0.0


def _first_overlap(predicted: Sequence[ScoredWindow], truth: Sequence[Window]) -> float:
    """The highest IoU of the first-listed window (0..1).

    The script divides by the hull of the two windows here. Where they overlap that is their union, but for rounding.
    """
    if not predicted:
        return 0.0
    first = predicted[0]
    best = max(truth, key=lambda window: _iou(first, window))  # of equals the first, as argmax
    hull = max(first[1], best[1]) - min(first[0], best[0])
    return _overlap(first, best) / hull if hull else 0.0


def _average_precisions(predicted: Sequence[ScoredWindow], truth: Sequence[Window]) -> list[float]:
    """Interpolated average precision (0..1) of one query at every IoU threshold."""
    ranked = sorted(predicted[:MAX_WINDOWS], key=lambda window: -window[2])  # cut as listed, then sorted by score
    overlaps = []  # of every ranked window: its true windows by falling IoU; of equals the last is tried first
    for window in ranked:
        ious = [_iou(window, true) for true in truth]
        overlaps.append([(ious[j], j) for j in sorted(range(len(truth)), key=lambda j: (-ious[j], -j))])
    return [_average_precision(overlaps, threshold, len(truth)) for threshold in IOU_THRESHOLDS]


def _average_precision(overlaps: Sequence[Sequence[tuple[float, int]]], threshold: float, truths: int) -> float:
    taken: set[int] = set()
    precisions = []  # at the rank of every hit
    for rank, candidates in enumerate(overlaps, start=1):
        hit = next((j for iou, j in candidates if iou >= threshold and j not in taken), None)
        if hit is not None:
            taken.add(hit)
            precisions.append(len(taken) / rank)
    total, ceiling = 0.0, 0.0
    for found in range(len(precisions), 0, -1):  # from the last hit: precision may not rise again behind it
        ceiling = max(ceiling, precisions[found - 1])
        total += (found / truths - (found - 1) / truths) * ceiling
    return total


# -- highlights ---


def _highlights(queries: Sequence[_Query]) -> dict[str, Any]:
    clips = [_clip_scores(query.truth) for query in queries]
    saliency = [np.array(query.prediction.saliency, dtype=float) for query in queries]
    results = {}
    for name, level in SALIENCY_LEVELS.items():
        labels = [scores >= level for scores in clips]  # every annotator apart
        precisions = [_saliency_precisions(p, truth) for p, truth in zip(saliency, labels, strict=True)]
        hits = [_hit(p, truth) for p, truth in zip(saliency, labels, strict=True)]
        results[f"HL-min-{name}"] = {
            "HL-mAP": _percent(np.mean(np.array(precisions))),
            "HL-Hit1": _percent(np.mean(np.array(hits, dtype=float))),
        }
    return results


def _clip_scores(moment: Moment) -> np.ndarray:
    """The annotators' scores of every clip of the video [clips, annotators], 0 outside of the true windows."""
    length = int(moment.duration / CLIP_SECONDS)
    windows = moment.windows or ()
    if any(start < 0 or end / CLIP_SECONDS >= length + 1 for start, end in windows):
        raise UserError(f"query {moment.qid}: a window lies outside of the video, 0 to {moment.duration} s")
    clips = [range(int(start / CLIP_SECONDS), int(end / CLIP_SECONDS)) for start, end in windows]
    relevant = [clip for inside in clips for clip in inside]
    given = moment.saliency or ()
    if len(relevant) != len(given) or len({len(scores) for scores in given}) != 1:
        raise UserError(f"query {moment.qid}: {len(given)} saliency scores for {len(relevant)} clips in its windows")
    scores = np.zeros((length, len(given[0])))
    scores[relevant] = given
    return scores


def _hit(predicted: np.ndarray, labels: np.ndarray) -> bool:
    top = int(np.argmax(predicted)) if len(predicted) else len(labels)
    return top < len(labels) and bool(labels[top].any())


def _saliency_precisions(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision (0..1) of the ranked clips for every annotator [annotators]; labels [clips, annotators].

    The mean, over the levels of recall that some score threshold reaches, of the best precision at that recall
    or a higher one. Clips of equal score enter together. 0 without a highlight.
    """
    scores = np.zeros(len(labels))
    scores[: len(predicted)] = predicted[: len(labels)]
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # last clip of each distinct score
    found = np.cumsum(labels[order], axis=0)[ends]
    precision = found / (ends + 1)[:, None]
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = np.diff(found, axis=0, prepend=0) > 0
    return np.sum(best * reached, axis=0) / np.maximum(reached.sum(axis=0), 1)


def _percent(value: float | np.floating) -> float:
    return round(100 * float(value), 2)


def _brief(results: Mapping[str, Any]) -> dict[str, float]:
    brief: dict[str, float] = {}
    if "full" in results:
        full = results["full"]
        brief |= {f"MR-full-R1@{t}": full["MR-R1"][t] for t in ("0.5", "0.7")}
        brief["MR-full-mAP"] = full["MR-mAP"]["average"]
        brief |= {f"MR-full-mAP@{t}": full["MR-mAP"][t] for t in ("0.5", "0.75")}
        lengths = [name for name in ("long", "middle", "short") if name in results]
        brief |= {f"MR-{name}-mAP": results[name]["MR-mAP"]["average"] for name in lengths}
    for name in SALIENCY_LEVELS:
        if f"HL-min-{name}" in results:
            brief |= {f"HL-min-{name}-{key[3:]}": value for key, value in results[f"HL-min-{name}"].items()}
    return brief
