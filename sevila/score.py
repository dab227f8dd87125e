"""python -m sevila.score benchmark=NAME annotations=FILE predictions=FILE: score predictions that are there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevila import schema
from sevila.benchmarks.qvhighlights import read_moments
from sevila.benchmarks.rows import windows_of
from sevila.data.records import Moment, Question, Window
from sevila.errors import UserError
from sevila.files import check_other, check_place, read_json, write_json
from sevila.hydra_main import main
from sevila.metrics.choice import Choice, accuracy
from sevila.metrics.grounding import Grounding, grounding, to_seconds
from sevila.metrics.moments import MomentPrediction, qvhighlights
from sevila.metrics.nextqa import GROUPS, nextqa
from sevila.metrics.star import star
from sevila.report.terminal import printable
from sevila.submissions.annotations import read_questions
from sevila.submissions.matching import Matched, match, option
from sevila.submissions.names import official_name
from sevila.submissions.reading import ANSWER_FORMS, Entry, open_document, read_entries
from sevila.submissions.spans import MinMaxSpans, SpanRule, keyframe_span, moment_prediction

SPLITS = {"how2qa": "val", "tvqa": "val", "vlep": "dev"}  # the key of the number in VALUE's own files


@dataclass(frozen=True)
class Score:
    """What a benchmark's own script says of a file of predictions.

    table      names and values as printed
    official   the same and more under the script's own keys
    notes      what else the reader of the table must know: questions left out and the like
    """

    table: tuple[tuple[str, str], ...]
    official: dict[str, Any]
    notes: tuple[str, ...] = ()


def run(config: schema.Score) -> Score:
    """Score, print, and write `out` where it is given."""
    if config.out is not None:
        check_place("out", config.out)
        inputs = ("annotations", "predictions", "segments", "spans", "answers")
        check_other("out", config.out, {key: getattr(config, key) for key in inputs})
    score = SCORERS[config.benchmark](config)
    _print(config.benchmark, score)
    if config.out is not None:
        write_json(config.out, score.official)
        print(f"written: {config.out}")
    return score


# -- multiple choice ---


def _multiple_choice(config: schema.Score) -> tuple[list[Choice], tuple[str, ...]]:
    """The choices that a file of predictions makes, and notes."""
    _refuse(config, "segments", "spans", "answers", "normalised")
    questions = read_questions(config.benchmark, _file(config, "annotations"))
    matched = _answers(config, questions, "predictions")
    choices = []
    for question in questions:
        if question.qid in matched.entries:
            choices.append(Choice(question.answer, option(matched.entries[question.qid], question), question.qtype))
    return choices, _left_out(config, matched.missing, len(questions), "predictions")


def score_nextqa(config: schema.Score) -> Score:
    """As NExT-QA's eval_mc.py, and every single type as SeViLA's own code."""
    _refuse(config, "split")
    choices, notes = _multiple_choice(config)
    result = nextqa(choices)
    groups = [(name, result["metrics"][f"Acc_{name}"]) for name in GROUPS if f"Acc_{name}" in result["metrics"]]
    rows = [("Acc", result["Acc"]), *groups, *result["types"].items()]
    return Score(_two_decimals(rows, result["total"]), result, notes)


def score_star(config: schema.Score) -> Score:
    """As SeViLA's own code: the mean of the types' accuracies."""
    _refuse(config, "split")
    choices, notes = _multiple_choice(config)
    result = star(choices)
    rows = [("Avg", result["agg_metrics"]), *((k, v) for k, v in result.items() if k not in ("agg_metrics", "total"))]
    return Score(_two_decimals(rows, int(result["total"])), dict(result), notes)


def score_accuracy(config: schema.Score) -> Score:
    """As VALUE's scripts: one accuracy, under the name of the split."""
    choices, notes = _multiple_choice(config)
    value = accuracy(choices)
    total = sum(choice.answer is not None for choice in choices)
    split = config.split or SPLITS[config.benchmark]
    return Score(_two_decimals([("accuracy", value)], total), {split: value}, notes)


# -- grounded answers ---


def score_nextgqa(config: schema.Score) -> Score:
    """As NExT-GQA's eval_ground.py: questions without a span are left out of every mean."""
    _refuse(config, "split")
    segments = _file(config, "segments")
    questions = read_questions("nextgqa", _file(config, "annotations"), segments)
    if config.predictions is not None:
        _refuse(config, "spans", "answers", "normalised", because="predictions=FILE holds answers and keyframes")
        answers = _answers(config, questions, "predictions", beyond=True)
        spans = {qid: _own_span(entry) for qid, entry in answers.entries.items()}
    else:
        answers = _answers(config, questions, "answers", beyond=True)
        spans = _spans(config, questions)
    items, right, unanswered = [], [], []
    for question in questions:
        entry = answers.entries.get(question.qid)
        if entry is not None:
            right.append(option(entry, question) == question.answer)
        if question.qid not in spans or not question.windows:
            continue
        if entry is None:
            unanswered.append(question.qid)
        else:
            items.append(Grounding(spans[question.qid], question.windows, right[-1]))
    if unanswered:
        where = config.answers or config.predictions
        raise UserError(f"{where}: no answer to {len(unanswered)} questions with a span, first {unanswered[0]!r}")
    result = grounding(items)
    notes = list(_left_out(config, answers.missing, len(questions), "predictions" if config.predictions else "answers"))
    if len(items) < len(questions):
        notes.append(f"{len(questions) - len(items)} of {len(questions)} questions have no span: left out of the means")
    if answers.beyond:
        notes.append(f"{answers.beyond} predictions are for questions outside of the annotations: passed over")
    answered = 100 * sum(right) / len(right)
    rows = [*result.items(), ("Acc@QA", answered)]
    official = {
        "n_pred": len(items),
        "printed": {name: round(value, 1) for name, value in result.items()},
        "precise": {name: round(value, 10) for name, value in result.items()},
        "Acc@QA": round(answered, 10),
    }
    return Score((*((name, f"{value:.1f}") for name, value in rows), ("n", str(len(items)))), official, tuple(notes))


def _own_span(entry: Entry) -> Window:
    """From the first to the last keyframe of a line of predictions.jsonl, or of NExT-GQA's code/SeViLA.

    fid2frame.py there writes the keyframes' times as "location", beside prediction and answer.
    """
    field = "location" if "location" in entry.values else "keyframes"
    frames = entry.values.get(field)
    try:
        return keyframe_span([{"time": time} for time in frames] if field == "location" else frames)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise entry.fail(field, f"expected the keyframes with their times, found {frames!r}") from None


def _spans(config: schema.Score, questions: Sequence[Question]) -> dict[str, Window]:
    """The spans of {video_qid: [start, end]}, in seconds, by the qid of the question."""
    path = _file(config, "spans")
    table = open_document(path).table
    if table is None:
        raise UserError(f"{path}: expected {{qid: [start, end]}}")
    entries = [Entry(f"{path}, key {key}", key, values={"span": span}) for key, span in table.items()]
    matched = match("nextgqa", questions, entries, str(config.annotations))
    durations = _durations(_file(config, "segments")) if config.normalised else {}
    spans = {}
    for qid, entry in matched.entries.items():
        span = _window(entry, entry.values["span"])
        if config.normalised:
            if not 0 <= span[0] <= span[1] <= 1:
                raise UserError(f"{entry.place}: {list(span)} does not lie in 0..1: is normalised=true right?")
            span = to_seconds(span, durations[official_name("nextgqa", qid).rpartition("_")[0]])
        spans[qid] = span
    return spans


def _window(entry: Entry, span: Any) -> Window:
    windows = windows_of([span])
    numbers = windows is not None and isinstance(span, list) and all(type(number) in (int, float) for number in span)
    if not numbers or not span[0] <= span[1]:
        raise UserError(f"{entry.place}: expected [start, end] in seconds, found {span!r}")
    return windows[0]


def _durations(path: Path) -> dict[str, float]:
    try:
        return {video: float(values["duration"]) for video, values in read_json(path).items()}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: expected {{video: {{duration: seconds}}}}") from None


# -- moments ---


def score_qvhighlights(config: schema.Score) -> Score:
    """As moment_detr's standalone_eval. Where rows have nothing but frame scores, `MinMaxSpans` makes windows."""
    _refuse(config, "segments", "spans", "answers", "normalised", "split")
    moments = read_moments(_file(config, "annotations"))
    path = _file(config, "predictions")
    rows = open_document(path).rows
    if rows is None:
        raise UserError(f'{path}: expected lines {{"qid", "pred_relevant_windows", "pred_saliency_scores"}}')
    by_qid = {moment.qid: moment for moment in moments}
    rule = MinMaxSpans()
    found: dict[str, MomentPrediction] = {}
    for place, row in rows:
        qid = str(row.get("qid"))
        if qid not in by_qid:
            raise UserError(f"{place}, field qid: no query {row.get('qid')!r} in {config.annotations}")
        if qid in found:
            raise UserError(f"{place}, field qid: query {qid} has a prediction already")
        found[qid] = _moment_prediction(place, row, by_qid[qid], rule)
    missing = tuple(qid for qid in by_qid if qid not in found)
    notes = _left_out(config, missing, len(moments), "predictions")
    if any(_only_frames(row) for _, row in rows):
        notes += (f"windows made from frame scores by {rule}",)
    backwards = sum(prediction.backwards for prediction in found.values())
    if backwards:
        notes += (f"{backwards} predicted windows end before they start: they count as misses, as in the script",)
    result = qvhighlights(moments, list(found.values()))
    table = tuple((name, f"{value:.2f}") for name, value in result["brief"].items())
    return Score((*table, ("n", str(len(found)))), result, notes)


def _only_frames(row: Mapping[str, Any]) -> bool:
    return "frames" in row and not row.keys() & {"pred_relevant_windows", "pred_saliency_scores"}


def _moment_prediction(place: str, row: Mapping[str, Any], moment: Moment, rule: SpanRule) -> MomentPrediction:
    try:
        if _only_frames(row):
            scores = [frame["score"] for frame in row["frames"]]
            return moment_prediction(moment, scores, None, [frame["time"] for frame in row["frames"]], rule)
        windows, saliency = row.get("pred_relevant_windows"), row.get("pred_saliency_scores")
        return MomentPrediction(
            moment.qid,
            None if windows is None else tuple((float(s), float(e), float(score)) for s, e, score in windows),
            None if saliency is None else tuple(float(score) for score in saliency),
        )
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    except (TypeError, ValueError, KeyError, OverflowError):
        field = "frames" if _only_frames(row) else "pred_relevant_windows or pred_saliency_scores"
        raise UserError(f"{place}, field {field}: expected [[start, end, score], ...] and numbers") from None


# -- shared ---


def _answers(config: schema.Score, questions: Sequence[Question], key: str, beyond: bool = False) -> Matched:
    path = _file(config, key)
    entries = read_entries(path, ANSWER_FORMS[config.benchmark])
    matched = match(config.benchmark, questions, entries, str(config.annotations), beyond)
    if not matched.entries:
        raise UserError(f"{path}: none of its questions is in {config.annotations}")
    return matched


def _file(config: schema.Score, key: str) -> Path:
    value = getattr(config, key)
    if value is None:
        raise UserError(f"{key} has no value: benchmark={config.benchmark} needs {key}=FILE")
    return Path(value)


def _refuse(config: schema.Score, *keys: str, because: str = "") -> None:
    for key in keys:
        if getattr(config, key):
            reason = because or f"benchmark={config.benchmark} has no use for it"
            raise UserError(f"{key}={getattr(config, key)}: {reason}; leave it out")


def _left_out(config: schema.Score, missing: Sequence[str], total: int, key: str) -> tuple[str, ...]:
    """A note on questions without a prediction; UserError where they are not to be left out."""
    if not missing:
        return ()
    listed = f"no prediction for {len(missing)} of {total} questions, first {missing[0]!r}"
    if config.missing == "refuse":
        raise UserError(f"{getattr(config, key)}: {listed}; missing=skip leaves them out of the score")
    return (f"{listed}: left out of the score",)


def _two_decimals(rows: Sequence[tuple[str, float]], total: int) -> tuple[tuple[str, str], ...]:
    return (*((name, f"{value:.2f}") for name, value in rows), ("n", str(total)))


def _print(benchmark: str, score: Score) -> None:
    from rich.console import Console
    from rich.text import Text

    from sevila.report.terminal import plain_table

    table = plain_table()
    table.add_column(benchmark)
    table.add_column("value", justify="right", no_wrap=True)
    for name, value in score.table:
        table.add_row(Text(printable(name)), Text(value))
    Console().print(table)
    for note in score.notes:
        print(printable(f"note: {note}"))


SCORERS: dict[str, Callable[[schema.Score], Score]] = {
    "nextqa": score_nextqa,
    "star": score_star,
    "how2qa": score_accuracy,
    "tvqa": score_accuracy,
    "vlep": score_accuracy,
    "qvhighlights": score_qvhighlights,
    "nextgqa": score_nextgqa,
}


def cli(argv: Sequence[str] | None = None) -> int:
    return main("score", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
