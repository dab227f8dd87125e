"""NExT-GQA: NExT-QA's causal and temporal questions with the windows that hold the answer.

Source: github.com/doc-doc/NExT-GQA. Its rows are NExT-QA's with the answer as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevila.benchmarks.base import Answered
from sevila.benchmarks.nextqa import OPTIONS, NExTQA
from sevila.benchmarks.predictions import Entry, Score, chosen_option, left_out, match, needed, read_content
from sevila.benchmarks.rows import Dropped, Row, whole_number, windows_of
from sevila.data.records import Question, Window
from sevila.errors import UserError
from sevila.files import read_json, write_json
from sevila.metrics.keyframes import Grounding, grounding, keyframe_span, to_seconds


@dataclass
class NExTGQA(NExTQA):
    """NExT-GQA below `root`. Training has no windows; NExT-QA's own train.csv serves as well as NExT-GQA's."""

    videos: str = "../nextqa/videos"
    val_windows: str | None = "annotations/gsub_val.json"
    test_windows: str | None = "annotations/gsub_test.json"

    name = "nextgqa"
    columns = (*NExTQA.columns[1:], "answer")  # the video is `video` or `video_id`
    window_metrics = ("Acc@GQA", "mIoP", "TIoP@0.3", "TIoP@0.5", "mIoU", "TIoU@0.3", "TIoU@0.5")

    def __post_init__(self) -> None:
        super().__post_init__()
        for split in ("val", "test"):
            if getattr(self, split) is not None and getattr(self, f"{split}_windows") is None:
                raise UserError(
                    f"data.{split}_windows=null: data.{split} has windows; name their file, or no data.{split}"
                )

    def split_questions(self, split: str, dropped: list[Dropped] | None) -> list[Question]:
        windows = None if split == "train" else self.file(f"{split}_windows")
        return self.read_questions(self.file(split), dropped, windows)

    @classmethod
    def question(cls, row: Row) -> Question:
        options = row.texts("a{}", OPTIONS)
        if whole_number(row.text("answer")) is not None and row.text("answer") not in options:  # NExT-QA's own form
            answer = row.integer("answer", 0, OPTIONS - 1)
        else:
            answer = row.choice("answer", options)
        return cls.prompted(row, row.text("video" if "video" in row.values else "video_id"), answer)

    @classmethod
    def evaluate(cls, answered: Sequence[Answered]) -> dict[str, Any]:
        """As NExT-QA, and the span from the first to the last keyframe against the true segments."""
        grounded = _grounded(answered)
        numbers = {name: round(value, 2) for name, value in grounding(grounded).items()} if grounded else {}
        return {**super().evaluate(answered), **numbers}

    @classmethod
    def submission_files(cls, path: Path) -> list[Path]:
        return [path.with_name(f"{path.stem}_{part}.json") for part in ("answers", "spans")]

    @classmethod
    def write(cls, path: Path, answered: Sequence[Answered]) -> list[Path]:
        """Two files beside each other: NAME_answers.json as NExT-QA's, and NAME_spans.json.

        Spans are {video_qid: [start, end]} in seconds, what eval_ground.py reads, from the first keyframe to the last.
        """
        spans = {}
        for a in answered:
            if a.span is None:
                raise UserError(f"question {a.question.qid!r}: its prediction has no keyframes, so it has no span")
            spans[cls.official_id(a.question.qid)] = list(a.span)
        files = cls.submission_files(path)
        for file, content in zip(files, (cls.submission(answered), spans), strict=True):
            write_json(file, content)
        return files

    @classmethod
    def score(
        cls,
        annotations: Path,
        predictions: Path | None = None,
        missing: str = "refuse",
        segments: Path | None = None,
        spans: Path | None = None,
        answers: Path | None = None,
        normalised: bool = False,
    ) -> Score:
        """As NExT-GQA's code/TempGQA/eval_ground.py: questions without a span are left out of every mean.

        predictions      with keyframes, whose span counts; or, in their place,
        spans, answers   the two files that the script reads
        segments         the gsub json with the true windows
        normalised       `spans` lie in 0..1 and are multiplied by the duration (the script's gs=True)
        """
        segments = needed(cls.name, "segments", segments)
        if not (predictions or answers or spans):
            raise UserError(f"{cls.name} needs --predictions FILE, or --answers FILE and --spans FILE")
        if predictions is not None and (spans or answers or normalised):
            key = "spans" if spans else "answers" if answers else "normalised"
            raise UserError(f"--{key}: --predictions holds answers and keyframes; leave it out")
        questions = cls.read_questions(annotations, windows=segments)
        given = predictions or needed(cls.name, "answers", answers)
        matched = cls.matched(questions, given, annotations, beyond=True)  # NExT-QA's files hold more questions
        if predictions is not None:
            span_of = {qid: _own_span(entry) for qid, entry in matched.entries.items()}
        else:
            span_of = _spans(questions, needed(cls.name, "spans", spans), annotations, segments, normalised)
        answered = [
            Answered(question, chosen_option(matched.entries[question.qid], question), span_of.get(question.qid))
            for question in questions
            if question.qid in matched.entries
        ]
        unanswered = [q.qid for q in questions if q.qid in span_of and q.windows and q.qid not in matched.entries]
        if unanswered:
            raise UserError(f"{given}: no answer to {len(unanswered)} questions with a span, first {unanswered[0]!r}")
        grounded = _grounded([a for a in answered if a.question.windows])
        notes = list(left_out(matched.missing, len(questions), given, missing))
        if len(grounded) < len(questions):
            without = len(questions) - len(grounded)
            notes.append(f"{without} of {len(questions)} questions have no span: left out of the means")
        if matched.beyond:
            notes.append(f"{matched.beyond} predictions are for questions outside of the annotations: passed over")
        return _score(grounding(grounded), answered, len(grounded), tuple(notes))


def _grounded(answered: Sequence[Answered]) -> list[Grounding]:
    """The answers whose span can be measured: it was predicted, and the true windows are known."""
    return [
        Grounding(a.span, a.question.windows, a.option == a.question.answer)
        for a in answered
        if a.span is not None and a.question.windows is not None
    ]


def _score(result: Mapping[str, float], answered: Sequence[Answered], n: int, notes: tuple[str, ...]) -> Score:
    """Printed with one decimal, as the script prints it; beside it the accuracy of all answers, spans or not."""
    right = 100 * sum(a.option == a.question.answer for a in answered) / len(answered)
    table = [(name, f"{value:.1f}") for name, value in (*result.items(), ("Acc@QA", right))]
    official = {
        "n_pred": n,
        "printed": {name: round(value, 1) for name, value in result.items()},
        "precise": {name: round(value, 10) for name, value in result.items()},
        "Acc@QA": round(right, 10),
    }
    return Score((*table, ("n", str(n))), official, notes)


def _own_span(entry: Entry) -> Window:
    """From the first to the last keyframe of a line of predictions.jsonl, or of NExT-GQA's code/SeViLA.

    fid2frame.py there writes the keyframes' times as "location", beside prediction and answer.
    """
    field = "location" if "location" in entry.values else "keyframes"
    frames: Any = entry.values.get(field)
    try:
        return keyframe_span(frames if field == "location" else [frame["time"] for frame in frames])
    except (TypeError, ValueError, KeyError, OverflowError):
        raise entry.fail(field, f"expected the keyframes with their times, found {frames!r}") from None


def _spans(
    questions: Sequence[Question], path: Path, annotations: Path, segments: Path, normalised: bool
) -> dict[str, Window]:
    """The spans of {video_qid: [start, end]}, in seconds, by the qid of the question."""
    content = read_content(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected {{qid: [start, end]}}")
    entries = [Entry(f"{path}, key {key}", key, values={"span": span}) for key, span in content.items()]
    matched = match(questions, entries, NExTGQA.ids, str(annotations))
    durations = _durations(segments) if normalised else {}
    spans = {}
    for qid, entry in matched.entries.items():
        span = _window(entry, entry.values["span"])
        if normalised:
            if not 0 <= span[0] <= span[1] <= 1:
                raise UserError(f"{entry.place}: {list(span)} does not lie in 0..1: is --normalised right?")
            span = to_seconds(span, durations[NExTGQA.official_id(qid).rpartition("_")[0]])
        spans[qid] = span
    return spans


def _window(entry: Entry, span: Any) -> Window:
    windows = windows_of([span])
    numbers = isinstance(span, list) and all(type(number) in (int, float) for number in span)
    if windows is None or not numbers or not span[0] <= span[1]:
        raise UserError(f"{entry.place}: expected [start, end] in seconds, found {span!r}")
    return windows[0]


def _durations(path: Path) -> dict[str, float]:
    try:
        return {video: float(values["duration"]) for video, values in read_json(path).items()}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: expected {{video: {{duration: seconds}}}}") from None
