"""QVHighlights: the moments of a video that a sentence is about. Source: github.com/jayleicn/moment_detr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevila.benchmarks.base import FileBenchmark
from sevila.benchmarks.predictions import Score, left_out, needed, read_content
from sevila.benchmarks.rows import Row, shown
from sevila.benchmarks.spans import MinMaxSpans, SpanRule, moment_prediction
from sevila.data.records import Moment
from sevila.errors import UserError
from sevila.files import write_jsonl
from sevila.metrics.moments import MomentPrediction, qvhighlights

UNIFIED_PREFIX = "QVHighlight_"  # what the official preprocessing puts before a qid
FIELDS = ("qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores")  # of a line of a submission


@dataclass
class QVHighlights(FileBenchmark):
    """QVHighlights below `root`. The older highlight_test_release.jsonl, which hides its windows, loads too, and so do
    the ASR captions of subs_train.jsonl, for weakly supervised pre-training: there a query is what somebody says in
    the video, and its one window is when."""

    train: str | None = "annotations/highlight_train_release.jsonl"
    val: str | None = "annotations/highlight_val_release.jsonl"
    test: str | None = "annotations/highlight_test_with_gt.jsonl"

    name = "qvhighlights"
    suffixes = (".jsonl",)
    has_moments = True

    @classmethod
    def moment(cls, row: Row) -> Moment:
        """A row, or one of the official preprocessing's json; windows and saliency are None where it has none."""
        return Moment(
            qid=row.name("qid").removeprefix(UNIFIED_PREFIX),
            video=row.text("video" if "video" in row.values else "vid"),
            query=row.text("query"),
            duration=row.number("duration"),
            windows=row.windows("relevant_windows") if "relevant_windows" in row.values else None,
            saliency=_saliency(row) if "saliency_scores" in row.values else None,
        )

    @classmethod
    def write_submission(cls, path: Path, records: Sequence[Moment], rows: Sequence[Mapping[str, Any]]) -> list[Path]:
        """Its jsonl, one line a query, in the queries' order (moment_detr, standalone_eval/README.md).

        Their server takes a zip with hl_val_submission.jsonl and hl_test_submission.jsonl of this format. UserError
        unless there is exactly one prediction for every query.
        """
        cls.check_submission(path)
        by_qid = {str(row["qid"]): row for row in rows}
        if len(by_qid) != len(rows) or by_qid.keys() != {moment.qid for moment in records}:
            raise UserError(f"{path}: {len(rows)} predictions for {len(records)} queries: one for each is needed")
        ordered = (by_qid[moment.qid] for moment in records)
        write_jsonl(path, ({name: row[name] for name in FIELDS if name in row} for row in ordered))
        return [path]

    @classmethod
    def score(cls, annotations: Path, predictions: Path | None, missing: str = "refuse") -> Score:
        """As moment_detr's standalone_eval. Where rows have nothing but frame scores, `MinMaxSpans` makes windows."""
        predictions = needed(cls.name, "predictions", predictions)
        moments = {moment.qid: moment for moment in cls.read_moments(annotations)}
        rows = read_content(predictions)
        if not isinstance(rows, list):
            raise UserError(f'{predictions}: expected lines {{"qid", "pred_relevant_windows", "pred_saliency_scores"}}')
        rule = MinMaxSpans()
        found: dict[str, MomentPrediction] = {}
        for row in rows:
            qid = str(row.values.get("qid"))
            if qid not in moments:
                raise row.fail("qid", f"no query {row.values.get('qid')!r} in {annotations}")
            if qid in found:
                raise row.fail("qid", f"query {qid} has a prediction already")
            found[qid] = _prediction(row, moments[qid], rule)
        lacking = tuple(qid for qid in moments if qid not in found)
        notes = left_out(lacking, len(moments), predictions, missing)
        if any(_only_frames(row) for row in rows):
            notes += (f"windows made from frame scores by {rule}",)
        backwards = sum(prediction.backwards for prediction in found.values())
        if backwards:
            notes += (f"{backwards} predicted windows end before they start: they count as misses, as in the script",)
        result = qvhighlights(list(moments.values()), list(found.values()))
        return Score.of(list(result["brief"].items()), len(found), result, notes)


def moment_row(moment: Moment, prediction: MomentPrediction) -> dict[str, Any]:
    """A line of QVHighlights' submission; what was not predicted is left out. Ids are whole numbers there."""
    row: dict[str, Any] = {
        "qid": int(moment.qid) if moment.qid.isascii() and moment.qid.isdigit() else moment.qid,
        "query": moment.query,
        "vid": moment.video,
    }
    if prediction.windows is not None:
        row["pred_relevant_windows"] = [list(window) for window in prediction.windows]
    if prediction.saliency is not None:
        row["pred_saliency_scores"] = list(prediction.saliency)
    return row


def _only_frames(row: Row) -> bool:
    return "frames" in row.values and not row.values.keys() & {"pred_relevant_windows", "pred_saliency_scores"}


def _prediction(row: Row, moment: Moment, rule: SpanRule) -> MomentPrediction:
    values = row.values
    try:
        if _only_frames(row):
            scores = [frame["score"] for frame in values["frames"]]
            return moment_prediction(moment, scores, None, [frame["time"] for frame in values["frames"]], rule)
        windows, saliency = values.get("pred_relevant_windows"), values.get("pred_saliency_scores")
        return MomentPrediction(
            moment.qid,
            None if windows is None else tuple((float(s), float(e), float(score)) for s, e, score in windows),
            None if saliency is None else tuple(float(score) for score in saliency),
        )
    except UserError as error:
        raise UserError(f"{row.place}: {error}") from None
    except (TypeError, ValueError, KeyError, OverflowError):
        field = "frames" if _only_frames(row) else "pred_relevant_windows or pred_saliency_scores"
        raise row.fail(field, "expected [[start, end, score], ...] and numbers") from None


def _saliency(row: Row) -> tuple[tuple[int, ...], ...]:
    clips = row.values["saliency_scores"]
    try:
        return tuple(tuple(int(score) for score in clip) for clip in clips)
    except (TypeError, ValueError, OverflowError):
        raise row.fail("saliency_scores", f"expected a list of scores for each clip, found {shown(clips)}") from None
