"""python -m sevila.predict video=FILE question="..." options='[red, green]': answer questions about videos."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevila import schema
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.files import HALF_CHARACTER, HALF_CHARACTER_FAULT, check_other, check_place, home_path, numbered_jsonl
from sevila.hydra_main import main
from sevila.model.prompts import letters
from sevila.report.terminal import knows_unicode, printable

if TYPE_CHECKING:
    from sevila.model.sevila import SeViLA
    from sevila.tasks.chain import ForwardChain

PICTURES = (".png", ".html")


def run(config: schema.Predict) -> None:
    """Answer one question, or a file of them."""
    questions = list(_questions(config))
    out = _out(config, questions)
    _check_videos(config, questions)

    from sevila import build
    from sevila.checkpoints.architecture import TINY

    accelerator = build.accelerator(config)
    chain = _chain(config, build.model(config, accelerator.device))
    build.tell_precision(config)
    if config.questions:
        _answer_many(chain, questions, out)
    else:
        _answer_one(chain, questions[0], out)
    build.warn_of_truncation(chain.model)
    if config.model.source == TINY:
        print(
            "model: the tiny backbone of the drawn world, good for that world alone; "
            "model=blip2_flan_t5_xl takes the paper's",
            file=sys.stderr,
        )


def _questions(config: schema.Predict) -> Iterator[Question]:
    """The questions that the configuration asks; UserError names what is missing."""
    if config.questions is None:
        for key in ("video", "question"):
            if getattr(config, key) is None:
                raise UserError(f"{key} has no value: give video=FILE question=\"...\" options='[a, b]'")
        yield _question("0", {"video": config.video, "question": config.question, "options": config.options}, "")
        return
    if config.video or config.question or config.options:
        raise UserError("questions=FILE holds videos, questions and options: leave the keys of those names out")
    base = Path(config.questions).parent
    rows = numbered_jsonl(config.questions)
    if not rows:
        raise UserError(f"{config.questions}: holds no question")
    for line, row in rows:
        where = f"{config.questions}, line {line}, "
        question = _question(str(row.get("qid", line)), row, where)
        video = home_path(question.video)
        yield Question(question.qid, str(base / video), question.question, question.options)


def _question(qid: str, row: dict[str, Any], where: str) -> Question:
    for key, kind in (("video", str), ("question", str), ("options", list)):
        if not isinstance(row.get(key), kind):
            wanted = "a list" if kind is list else "text"
            raise UserError(f"{where}field {key}: expected {wanted}, found {row.get(key)!r}")
    options = tuple(row["options"])
    texts = {"qid": [qid], "video": [row["video"]], "question": [row["question"]], "options": options}
    for key, values in texts.items():
        for value in values:
            if isinstance(value, str) and HALF_CHARACTER.search(value):
                raise UserError(f"{where}field {key}: {value!r} {HALF_CHARACTER_FAULT}")
    if len(options) < 2 or not all(isinstance(option, str) and option for option in options):
        raise UserError(f"{where}options: a question needs at least 2 options, each a text; found {list(options)}")
    try:
        letters(len(options))
    except UserError as error:
        raise UserError(f"{where}options: {error}") from None
    return Question(qid, row["video"], row["question"], options)


def _out(config: schema.Predict, questions: Sequence[Question]) -> Path | None:
    if config.out is None:
        return None
    out = Path(config.out)
    wanted = (".jsonl",) if config.questions else PICTURES
    if out.suffix not in wanted:
        raise UserError(f"out={out}: expected a name that ends in {' or '.join(wanted)}")
    check_place("out", out)
    check_other("out", out, {"questions": config.questions})
    for question in questions:
        check_other("out", out, {"video": question.video})
        if Path(question.video).is_dir() and out.resolve().parent == Path(question.video).resolve():
            raise UserError(f"out={out}: lies among the frames of video={question.video}; name another place")
    return out


def _check_videos(config: schema.Predict, questions: Sequence[Question]) -> None:
    """UserError for a video that cannot be read or has fewer than k frames, before the model is loaded."""
    from sevila.data.folders import AnyFile
    from sevila.data.video import probe

    if config.k > config.n_frames:
        raise UserError(f"k={config.k}: only n_frames={config.n_frames} frames are sampled; choose k at most that")
    for video in dict.fromkeys(question.video for question in questions):
        frames = probe(AnyFile().path(video)).length
        if frames < config.k:
            raise UserError(f"k={config.k}: {video} has only {frames} frames; choose k at most that")


def _chain(config: schema.Predict, model: SeViLA) -> ForwardChain:
    from sevila import build
    from sevila.data.dataset import VideoSource
    from sevila.data.folders import AnyFile
    from sevila.data.video import CachedVideos
    from sevila.selection import LocalizerTopK
    from sevila.tasks.chain import ForwardChain

    size = config.model.image_size or model.backbone.image_size
    videos = CachedVideos(size)
    source = VideoSource(videos, AnyFile(), config.n_frames, store=build.store(config.store, model.backbone, videos))
    return ForwardChain(model, LocalizerTopK(config.k), source)


def _answer_one(chain: ForwardChain, question: Question, out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sevila.examples import example, write_answer

    (prediction,) = chain.predict([question])
    shown = example(question, prediction.to_json(), chain.source.folder)
    console = Console()
    arrow = ">" if console.options.ascii_only else "→"
    table = Table(title=Text(printable(question.question)))  # Text: brackets in it are no markup
    for title in ("", "option", "probability"):
        table.add_column(title)
    for i, (option, chance) in enumerate(zip(question.options, shown.timeline.probabilities, strict=True)):
        table.add_row(arrow if i == prediction.prediction else "", Text(printable(option)), f"{chance:.3f}")
    console.print(table)
    for i in prediction.keyframes:
        frame = prediction.frames[i]
        console.print(f"keyframe {frame.index} at {frame.time:.2f} s, score {frame.score:.3f}")
    if out is None:
        return
    write_answer(out, shown)
    print(f"written: {out}")


def _answer_many(chain: ForwardChain, questions: Sequence[Question], out: Path | None) -> None:
    from sevila.files import json_line, write_jsonl

    rows = []
    for prediction in chain.predict(questions, label="questions by video"):
        row = prediction.to_json()
        del row["answer"], row["qtype"]
        row["answer"] = prediction.question.options[prediction.prediction]
        rows.append(row)
    try:
        if out is not None:
            write_jsonl(out, rows)
            print(f"written: {out}, {len(rows)} answers")
            return
    finally:  # also where there is no room for the file: the answers are not lost
        if out is None or sys.exception() is not None:
            ascii = not knows_unicode(sys.stdout)
            print("".join(json_line(row, ascii) for row in rows), end="")


def cli(argv: Sequence[str] | None = None) -> int:
    return main("predict", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
