"""sevila predict VIDEO QUESTION OPTION OPTION ...: answer questions about videos, or find the frames that matter."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevila import __version__
from sevila.cli import Parser, guarded, in_utf8, loading
from sevila.data.records import Question
from sevila.errors import UserError, suggest
from sevila.files import (
    HALF_CHARACTER,
    HALF_CHARACTER_FAULT,
    atomic_path,
    check_other,
    check_place,
    home,
    home_path,
    json_line,
    numbered_jsonl,
    read_text,
    write_json,
    write_jsonl,
)
from sevila.model.prompts import letters
from sevila.report.terminal import knows_unicode, printable

if TYPE_CHECKING:
    from sevila.api import SeViLA
    from sevila.model.sevila import Answer, Localization

TEXT = """\
Answer a question about a video, from the k frames that matter most for it. Without options these frames alone are
found: for an open question, or a sentence. VIDEO is a file, or a folder of numbered frames.
"""
EXAMPLES = """\
examples:
  sevila predict cat.mp4 "what does the cat do?" sleep eat play --out cat.html
  sevila predict cat.mp4 "the cat jumps onto the table" --frames keyframes
  sevila predict --questions questions.jsonl --out answers.jsonl --model Salesforce/blip2-flan-t5-xl

A line of questions.jsonl has "video", "question" and, if it is to be answered, "options"; a csv the columns video,
question, a0, a1, ... All other fields are kept. Videos are named as seen from the file's folder.
"""
MODELS = {f"blip2_flan_t5_{size}": f"Salesforce/blip2-flan-t5-{size}" for size in ("xl", "xxl")}
SELECTORS = ("localizer", "uniform", "random", "aks", "bolt")  # those that need no further file
OUTPUTS = (".html", ".png", ".json")


@dataclass(frozen=True)
class Asked:
    """A question, and all fields of the line that asks it."""

    question: Question
    fields: Mapping[str, Any]


def parser() -> Parser:
    options = Parser(
        prog="sevila predict",
        usage="%(prog)s VIDEO QUESTION [OPTION OPTION ...] [options]\n"
        "       %(prog)s --questions FILE [--out FILE.jsonl] [options]",
        description=TEXT,
        epilog=EXAMPLES,
    )
    options.add_argument("video", metavar="VIDEO", nargs="?", type=home, help="a file, or a folder of frames")
    options.add_argument("question", metavar="QUESTION", nargs="?", help="what is asked, or what is looked for")
    options.add_argument("options", metavar="OPTION", nargs="*", help="the possible answers, 2 to 26")
    options.add_argument("--questions", metavar="FILE", type=home_path, help="jsonl or csv of many, instead")
    options.add_argument(
        "--model",
        default="tiny",
        type=home,
        help="tiny, blip2_flan_t5_xl (the paper's), blip2_flan_t5_xxl, a Hub id, or a folder (tiny)",
    )
    head = "run folder, head file, Hub id, or zeroshot (zeroshot)"
    options.add_argument("--localizer", metavar="HEAD", default="zeroshot", type=home, help=head)
    options.add_argument("--answerer", metavar="HEAD", default="zeroshot", type=home, help=head)
    options.add_argument("--k", type=int, default=4, metavar="N", help="keyframes (4)")
    options.add_argument("--n-frames", type=int, default=32, metavar="N", help="frames sampled from a video (32)")
    options.add_argument("--selector", choices=SELECTORS, default="localizer", help="how keyframes are chosen")
    options.add_argument("--decoder", choices=("pyav", "decord", "torchcodec"), default="pyav", help="of videos (pyav)")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    options.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp64", "published"),
        default="auto",
        help="auto: what the device is fast in",
    )
    options.add_argument("--store", metavar="FOLDER", type=home, help="keeps what the vision tower made of videos")
    options.add_argument("--out", metavar="FILE", type=home_path, help=f"{', '.join(OUTPUTS)}; of many: .jsonl")
    options.add_argument("--frames", metavar="FOLDER", type=home_path, help="writes the keyframes there, as jpg")
    return options


def run(argv: Sequence[str] | None = None) -> None:
    """Answer one question, or a file of them. UserError for whatever is wrong with the command line or its files."""
    words = [in_utf8(word) for word in (sys.argv[1:] if argv is None else argv)]
    given = parser().parse_intermixed_args(words)
    asked = list(_read(given.questions)) if given.questions else [_one(given)]
    _check(given, [each.question for each in asked])
    model = _load(given, None if given.questions else asked[0].question.video)
    if given.questions:
        rows = list(_answer_all(model, asked, given))
        _write_rows(rows, given.out)
    else:
        _answer_one(model, asked[0].question, given)
    _warn(model)
    failed = [row["error"] for row in rows if "error" in row] if given.questions else []
    if failed:
        raise UserError(f"{len(failed)} of {len(rows)} questions have no answer; the first: {failed[0]}")


# -- what is asked ---


def _one(given: argparse.Namespace) -> Asked:
    for name in ("video", "question"):
        if getattr(given, name) is None:
            raise UserError(f"{name.upper()} is missing: sevila predict VIDEO QUESTION OPTION OPTION ...")
    fields = {"video": given.video, "question": given.question, "options": given.options}
    return Asked(_question("0", fields, ""), fields)


def _read(file: Path) -> Iterator[Asked]:
    """The questions of a file. UserError names the line of one that is malformed."""
    if file.suffix not in (".jsonl", ".csv"):
        raise UserError(f"--questions={file}: expected a name that ends in .jsonl or .csv")
    rows = list(_csv_rows(file)) if file.suffix == ".csv" else numbered_jsonl(file)
    if not rows:
        raise UserError(f"{file}: holds no question")
    for line, row in rows:
        asked = _question(str(row.get("qid", line)), row, f"{file}, line {line}, ")
        video = str(file.parent / home_path(asked.video))
        yield Asked(Question(asked.qid, video, asked.question, asked.options), row)


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines of a csv, options in the columns a0, a1, ... (empty ones at the end are none)."""
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{file}, line {reader.line_num}: has not as many fields as the first line")
            options = list(takewhile(bool, (row.get(f"a{i}") for i in count())))
            yield reader.line_num, {**row, "options": options}
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}") from None


def _question(qid: str, row: Mapping[str, Any], where: str) -> Question:
    for key, kind in (("video", str), ("question", str), ("options", list)):
        if not isinstance(row.get(key, [] if kind is list else None), kind):
            wanted = "a list" if kind is list else "text"
            raise UserError(f"{where}field {key}: expected {wanted}, found {row.get(key)!r}")
    options = tuple(row.get("options", ()))
    texts = {"qid": [qid], "video": [row["video"]], "question": [row["question"]], "options": options}
    for key, values in texts.items():
        for value in values:
            if isinstance(value, str) and HALF_CHARACTER.search(value):
                raise UserError(f"{where}field {key}: {value!r} {HALF_CHARACTER_FAULT}")
    if not row["question"].strip():
        raise UserError(f"{where}field question: is empty")
    if options and (len(options) < 2 or not all(isinstance(option, str) and option for option in options)):
        raise UserError(f"{where}options: a question needs at least 2 options, each a text; found {list(options)}")
    try:
        letters(max(2, len(options)))
    except UserError as error:
        raise UserError(f"{where}options: {error}") from None
    return Question(qid, row["video"], row["question"], options)


def _check(given: argparse.Namespace, questions: Sequence[Question]) -> None:
    """UserError for what does not belong together or could not be written, before anything slow begins."""
    if given.questions and given.video is not None:
        raise UserError("--questions=FILE holds videos, questions and options: leave those out")
    if given.questions and given.frames:
        raise UserError(f"--frames={given.frames}: keyframes of one video; leave it out, or name a VIDEO")
    for name in ("k", "n_frames"):
        if getattr(given, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}={getattr(given, name)}: must be at least 1")
    known = ("tiny", *MODELS)
    if given.model not in known and "/" not in given.model and not Path(given.model).is_dir():  # no Hub id: not asked
        meant, listed = suggest(given.model, known), ", ".join(known)
        raise UserError(f"--model={given.model}: no such folder{meant}; or a Hub id, OWNER/NAME, or one of: {listed}")
    if given.k > given.n_frames:
        raise UserError(f"--k={given.k}: only --n-frames={given.n_frames} are sampled; choose k at most that")
    if given.out:
        wanted = (".jsonl",) if given.questions else OUTPUTS
        if given.out.suffix not in wanted:
            raise UserError(f"--out={given.out}: expected a name that ends in {' or '.join(wanted)}")
        check_place("--out", given.out)
        check_other("--out", given.out, {"--questions": given.questions})
    if given.frames:
        check_place("--frames", given.frames / "0.jpg")
    for key, place in (("--out", given.out), ("--frames", given.frames and given.frames / "0.jpg")):
        for question in questions if place else ():
            check_other(key, place, {"VIDEO": question.video})
            if Path(question.video).is_dir() and place.resolve().parent == Path(question.video).resolve():
                raise UserError(f"{key}={getattr(given, key[2:])}: lies among the frames of {question.video}")


# -- answers ---


def _load(given: argparse.Namespace, video: str | None) -> SeViLA:
    """The model. UserError for the one video that cannot be read, or is too short, before the model is loaded."""
    from sevila.data.folders import AnyFile

    if video is not None:
        AnyFile().path(video)
    with loading("PyTorch and transformers"):
        from sevila.api import SeViLA
        from sevila.checkpoints.heads import find_head
        from sevila.data.decoders import decoder_for
        from sevila.data.video import CachedVideos
        from sevila.model.precision import DTYPES
    for role in ("localizer", "answerer"):
        if getattr(given, role) != "zeroshot":
            find_head(getattr(given, role), role)
    videos = CachedVideos(0, cache_bytes=0, decoder=decoder_for(given.decoder, 0))  # the size is the model's
    if video is not None and videos.info(video).length < given.k:
        raise UserError(f"--k={given.k}: {video} has only {videos.info(video).length} frames; choose k at most that")
    source = MODELS.get(given.model, given.model)
    with loading(f"the model {source}"):
        model = SeViLA.load(source, given.localizer, given.answerer, given.device, given.precision)
    backbone = model.model.backbone
    videos.size, model.videos = backbone.image_size, videos
    if given.store is not None:
        from sevila import build
        from sevila.schema import Store

        model.store = build.store(Store(given.store), backbone, videos)
    if given.precision == "auto":
        name = next(name for name, dtype in DTYPES.items() if dtype == backbone.dtype)
        print(f"sevila: precision auto takes {name} here", file=sys.stderr)
    return model


def _ask(model: SeViLA, questions: Sequence[Question], given: argparse.Namespace) -> list[Answer | Localization]:
    """What is found for questions about one video, which is encoded once. UserError where it cannot be read."""
    from sevila.selection import SELECTORS

    rule = SELECTORS[given.selector](given.k)
    encoded = model.encode(questions[0].video, given.n_frames)
    found: dict[int, Answer | Localization] = {}
    closed = [i for i, question in enumerate(questions) if question.options]
    if closed:
        texts, options = [questions[i].question for i in closed], [questions[i].options for i in closed]
        found |= zip(closed, model.answer(encoded, texts, options, selector=rule), strict=True)
    without = [i for i, question in enumerate(questions) if not question.options]
    if without:
        queries = [questions[i].question for i in without]
        found |= zip(without, model.localize(encoded, queries, selector=rule), strict=True)
    return [found[i] for i in range(len(questions))]


def _row(found: Answer | Localization) -> dict[str, Any]:
    """As in predictions.jsonl of a run: the option's number and text, what speaks for each, keyframes, all frames."""
    row = found.to_dict()
    if "option" not in row:
        return row
    names = {"option": "prediction", "text": "answer", "logits": "option_logits"}
    return {names.get(key, key): value for key, value in row.items()}


def _answer_all(model: SeViLA, asked: Sequence[Asked], given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each question, in their order, video by video; of a video that cannot be read it has an `error`."""
    from sevila.data.dataset import by_video
    from sevila.progress import ProgressBar

    rows: list[dict[str, Any]] = [{} for _ in asked]
    done = 0
    with ProgressBar("questions by video", len(asked)) as bar:
        for places in by_video([each.question for each in asked]):
            try:
                results = [_row(each) for each in _ask(model, [asked[i].question for i in places], given)]
            except UserError as error:
                results = [{"error": str(error)} for _ in places]
            for i, result in zip(places, results, strict=True):
                rows[i] = {**asked[i].fields, "qid": asked[i].question.qid, "video": asked[i].question.video, **result}
            done += len(places)
            bar.update(done)
        bar.finish(done)
    return rows


def _write_rows(rows: Sequence[dict[str, Any]], out: Path | None) -> None:
    try:
        if out is not None:
            write_jsonl(out, rows)
            print(f"written: {out}, {sum('error' not in row for row in rows)} answers")
            return
    finally:  # also where there is no room for the file: the answers are not lost
        if out is None or sys.exception() is not None:
            ascii = not knows_unicode(sys.stdout)
            print("".join(json_line(row, ascii) for row in rows), end="")


def _answer_one(model: SeViLA, question: Question, given: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    (found,) = _ask(model, [question], given)
    row = _row(found)
    console = Console()
    arrow = ">" if console.options.ascii_only else "→"
    title = Text(printable(question.question))  # Text: brackets in it are no markup
    table = Table("", "option", "probability", title=title)
    for i, option in enumerate(question.options):
        chosen = arrow if i == row["prediction"] else ""
        table.add_row(chosen, Text(printable(option)), f"{row['probabilities'][i]:.3f}")
    console.print(table if question.options else title)
    for frame in found.keyframes:
        score = "" if frame.score is None else f", score {frame.score:.3f}"
        console.print(f"keyframe {frame.index} at {frame.time:.2f} s{score}")
    if given.frames:
        files = list(_write_frames(model, question.video, found, given.frames))
        row["keyframes"] = [{**frame, "file": str(file)} for frame, file in zip(row["keyframes"], files, strict=True)]
        print("".join(f"written: {file}\n" for file in files), end="")
    if given.out:
        _write_answer(model, question, row, given)
        print(f"written: {given.out}")


def _write_answer(model: SeViLA, question: Question, row: Mapping[str, Any], given: argparse.Namespace) -> None:
    out = given.out
    if out.suffix == ".json":
        fields = {"video": question.video, "question": question.question, "options": list(question.options)}
        return write_json(out, {**fields, **row})
    from sevila.examples import example, write_answer
    from sevila.report.run_page import model_fact

    shown = {"prediction": None, "option_logits": [], **row}
    facts = {key.capitalize(): getattr(given, key) for key in ("model", "localizer", "answerer")}
    facts["Model"] = model_fact(given.model)
    facts["Selector"] = f"{given.selector}, k = {given.k} of {given.n_frames} frames"
    facts["Version"] = f"sevila {__version__}"
    write_answer(out, example(question, shown, model.videos.reader(question.video)), facts)


def _write_frames(model: SeViLA, video: str, found: Answer | Localization, folder: Path) -> Iterator[Path]:
    """The keyframes in the video's own size, as jpg files whose names are frame number and seconds."""
    from PIL import Image

    reader = model.videos.reader(video)
    longest = max(reader.info.width, reader.info.height)
    pictures = reader.pictures([frame.index for frame in found.keyframes], longest)
    for frame, pixels in zip(found.keyframes, pictures, strict=True):
        file = folder / f"frame_{frame.index:06d}_{frame.time:.2f}s.jpg"
        with atomic_path(file) as temporary:
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(temporary, format="JPEG", quality=95)
        yield file


def _warn(model: SeViLA) -> None:
    """Say on stderr what makes answers worth less: prompts that were cut, and the tiny backbone."""
    from sevila.checkpoints.architecture import warn_of_tiny

    backbone = model.model.backbone
    if backbone.truncated:
        cut = f"{len(backbone.truncated)} prompts were cut after {backbone.text_tokens} tokens"
        print(f"sevila: warning: {cut} and lost their instruction", file=sys.stderr)
    warn_of_tiny(backbone.source, "--model blip2_flan_t5_xl")


def cli(argv: Sequence[str] | None = None) -> int:
    return guarded(lambda: run(argv))


if __name__ == "__main__":
    raise SystemExit(cli())
