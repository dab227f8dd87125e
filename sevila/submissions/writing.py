"""Submission files for the test splits whose answers are hidden, each in its benchmark's own format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sevila.data.records import Moment, Question
from sevila.errors import UserError
from sevila.files import write_json, write_jsonl
from sevila.metrics.moments import MomentPrediction
from sevila.submissions.matching import match, option
from sevila.submissions.names import official_name
from sevila.submissions.reading import OWN, Document
from sevila.submissions.spans import keyframe_span

PredictionRow = Mapping[str, Any]  # a line of predictions.jsonl
Answered = tuple[Question, PredictionRow, int]  # the last one is the option chosen
MOMENTS = "qvhighlights"
Writer = Callable[[Path, Sequence[Answered]], list[Path]]


def write_submission(
    benchmark: str, path: Path, questions: Sequence[Question], rows: Sequence[PredictionRow]
) -> list[Path]:
    """Write the answers to all questions of a split, atomically; returns the files written.

    benchmark   a key of `WRITERS`; `write_moments` is QVHighlights' own
    path        its suffix may pick the format: VLEP has one as .json and one as .jsonl
    rows        lines of predictions.jsonl, in any order, one for every question

    UserError for another benchmark or suffix, a question without a row, a row without a question, a wrong option.
    """
    check_submission(benchmark, path)
    if benchmark not in WRITERS:
        raise UserError(f"{benchmark}: has no questions; its submission is made of moments")
    numbered = tuple((f"predictions, row {number}", dict(row)) for number, row in enumerate(rows, start=1))
    matched = match(benchmark, questions, OWN.entries(Document(path, rows=numbered)), f"the split of {benchmark}")
    if matched.missing:
        listed = f"{len(matched.missing)} of {len(questions)} questions, first {matched.missing[0]!r}"
        raise UserError(f"{path}: no prediction for {listed}: a submission needs them all")
    answered = [
        (question, matched.entries[question.qid].values, option(matched.entries[question.qid], question))
        for question in questions
    ]
    return WRITERS[benchmark][path.suffix](path, answered)


def check_submission(benchmark: str, path: Path) -> None:
    """UserError for a benchmark without a format of submission, and for a suffix that is none of its formats'."""
    known = {**{name: tuple(writers) for name, writers in WRITERS.items()}, MOMENTS: (".jsonl",)}
    if benchmark not in known:
        raise UserError(f"{benchmark}: has no format of submission; choose from: {', '.join(known)}")
    if path.suffix not in known[benchmark]:
        raise UserError(f"{path}: a submission to {benchmark} must end in {' or '.join(known[benchmark])}")


def check_complete(benchmark: str, questions: Sequence[Question], dropped: int) -> None:
    """UserError where the questions read could not make a whole submission: some were dropped, or lost their ids."""
    if dropped:
        raise UserError(f"submission: {dropped} records were dropped, and a submission needs them all")
    for question in questions:
        official_name(benchmark, question.qid)


def write_moments(path: Path, moments: Sequence[Moment], predictions: Sequence[MomentPrediction]) -> list[Path]:
    """QVHighlights' jsonl, one line a query, in the queries' order (moment_detr, standalone_eval/README.md).

    Their server takes a zip with hl_val_submission.jsonl and hl_test_submission.jsonl of this format. UserError
    unless there is exactly one prediction for every query.
    """
    check_submission(MOMENTS, path)
    by_qid = {prediction.qid: prediction for prediction in predictions}
    if len(by_qid) != len(predictions) or by_qid.keys() != {moment.qid for moment in moments}:
        raise UserError(f"{path}: {len(predictions)} predictions for {len(moments)} queries: one for each is needed")
    write_jsonl(path, (moment_row(moment, by_qid[moment.qid]) for moment in moments))
    return [path]


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


def _write_value(benchmark: str) -> Writer:
    """VALUE's {qid: option}, for How2QA, TVQA and VLEP (VALUE-Leaderboard/EvaluationTools, README).

    Their server takes a zip of folders such as how2qa/how2qa_test_public_predictions.json.
    """

    def write(path: Path, answered: Sequence[Answered]) -> list[Path]:
        write_json(path, {official_name(benchmark, question.qid): chosen for question, _, chosen in answered})
        return [path]

    return write


def _write_vlep_lines(path: Path, answered: Sequence[Answered]) -> list[Path]:
    """VLEP's own jsonl of {"example_id", "pred_ans"} (VideoLanguageFuturePred, standalone_eval/README.md)."""
    names = [official_name("vlep", question.qid) for question, _, _ in answered]
    rows = zip(names, answered, strict=True)
    write_jsonl(path, ({"example_id": int(name), "pred_ans": chosen} for name, (_, _, chosen) in rows))
    return [path]


def _write_nextqa(path: Path, answered: Sequence[Answered]) -> list[Path]:
    """NExT-QA's {video_qid: {"prediction", "answer"}}, what eval_mc.py reads; a hidden answer is null."""
    write_json(path, _prediction_table(answered))
    return [path]


def _write_nextgqa(path: Path, answered: Sequence[Answered]) -> list[Path]:
    """NExT-GQA's two files beside each other: NAME_answers.json as NExT-QA's, and NAME_spans.json.

    Spans are {video_qid: [start, end]} in seconds, what eval_ground.py reads, from the first keyframe to the last.
    """
    spans = {}
    for question, row, _ in answered:
        if not row.get("keyframes"):
            raise UserError(f"question {question.qid!r}: its prediction has no keyframes, so it has no span")
        spans[official_name("nextgqa", question.qid)] = list(keyframe_span(row["keyframes"]))
    files = [path.with_name(f"{path.stem}_{part}.json") for part in ("answers", "spans")]
    for file, content in zip(files, (_prediction_table(answered), spans), strict=True):
        write_json(file, content)
    return files


def _write_star(path: Path, answered: Sequence[Answered]) -> list[Path]:
    """{type: [{"question_id", "answer"}]}, the option's number as the answer.

    STAR's challenge server (eval.ai 1325) shows its format to those who are registered, and no published file
    or script was found to check this one against: compare it with the challenge page before submitting.
    """
    by_type: dict[str, list[dict[str, Any]]] = {}
    for question, _, chosen in answered:
        by_type.setdefault(question.qid.split("_")[0], []).append({"question_id": question.qid, "answer": chosen})
    write_json(path, by_type)
    return [path]


def _prediction_table(answered: Sequence[Answered]) -> dict[str, dict[str, int | None]]:
    return {
        official_name("nextqa", question.qid): {"prediction": chosen, "answer": question.answer}
        for question, _, chosen in answered
    }


# By benchmark, then by the suffix of the file.
WRITERS: dict[str, dict[str, Writer]] = {
    "nextqa": {".json": _write_nextqa},
    "nextgqa": {".json": _write_nextgqa},
    "star": {".json": _write_star},
    "how2qa": {".json": _write_value("how2qa")},
    "tvqa": {".json": _write_value("tvqa")},
    "vlep": {".json": _write_value("vlep"), ".jsonl": _write_vlep_lines},
}
