"""sevila predict VIDEO QUESTION OPTION OPTION ...: answer questions about videos, or find the frames that matter."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevila import __version__
from sevila.cli import Parser, guarded, in_utf8, loading
from sevila.data.records import Question
from sevila.errors import UserError, suggest
from sevila.files import (
    atomic_path,
    check_other,
    check_place,
    home,
    home_path,
    json_line,
    write_json,
    write_jsonl,
)
from sevila.progress import ProgressBar
from sevila.questions import WHOLE, WINDOW, Shard, by_video, question, read_questions, windows
from sevila.report.terminal import knows_unicode, printable

if TYPE_CHECKING:
    from sevila.answers import Answering, Faults
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
  sevila predict --questions millions.jsonl --out answers --shard 3/8

A line of questions.jsonl has "video", "question" and, if it is to be answered, "options"; a csv the columns video,
question, a0, a1, ... All other fields are kept. Videos are named as seen from the file's folder. A FILE.jsonl is
written when all is answered; in a FOLDER predictions.jsonl grows line by line, and the same command goes on where it
was stopped.
"""
MODELS = {f"blip2_flan_t5_{size}": f"Salesforce/blip2-flan-t5-{size}" for size in ("xl", "xxl")}
SELECTORS = ("localizer", "uniform", "random", "aks", "bolt")  # those that need no further file
OUTPUTS = (".html", ".png", ".json")
OF_MANY = {"shard": WHOLE, "window": WINDOW, "workers": None}  # what one question has no use for, and its default


def parser() -> Parser:
    options = Parser(
        prog="sevila predict",
        usage="%(prog)s VIDEO QUESTION [OPTION OPTION ...] [options]\n"
        "       %(prog)s --questions FILE [--out FILE.jsonl|FOLDER] [options]",
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
    help_out = f"{', '.join(OUTPUTS)}; of many: .jsonl, or a folder"
    options.add_argument("--out", metavar="FILE", type=home_path, help=help_out)
    options.add_argument("--shard", metavar="I/N", type=Shard.of, default=WHOLE, help="of many: a part, by video")
    options.add_argument(
        "--window", type=int, default=WINDOW, metavar="N", help=f"of many: rows that are read at a time ({WINDOW})"
    )
    options.add_argument("--workers", type=int, metavar="N", help="of many: processes that decode (GPU: 2, else 0)")
    options.add_argument("--actors", type=int, metavar="N", help="of many: models, each on a GPU or a core, by Ray")
    options.add_argument("--frames", metavar="FOLDER", type=home_path, help="writes the keyframes there, as jpg")
    return options


def run(argv: Sequence[str] | None = None) -> None:
    """Answer one question, or a file of them. UserError for whatever is wrong with the command line or its files."""
    words = [in_utf8(word) for word in (sys.argv[1:] if argv is None else argv)]
    given = parser().parse_intermixed_args(words)
    given.source = MODELS.get(given.model, given.model)
    if given.questions:
        _answer_many(given)
    else:
        _answer_one(given)


def _check(given: argparse.Namespace) -> None:
    """UserError for what does not belong together or could not be written, before anything slow begins."""
    if given.questions and given.video is not None:
        raise UserError("--questions=FILE holds videos, questions and options: leave those out")
    if given.questions and given.frames:
        raise UserError(f"--frames={given.frames}: keyframes of one video; leave it out, or name a VIDEO")
    for name, unset in OF_MANY.items():
        if not given.questions and getattr(given, name) != unset:
            told = f"--{name}={getattr(given, name)}"
            raise UserError(f"{told}: goes with many questions; leave it out, or name --questions FILE")
    for name, least in (("k", 1), ("n_frames", 1), ("window", 1), ("workers", 0), ("actors", 1)):
        if getattr(given, name) is not None and getattr(given, name) < least:
            raise UserError(f"--{name.replace('_', '-')}={getattr(given, name)}: must be at least {least}")
    known = ("tiny", *MODELS)
    if given.model not in known and "/" not in given.model and not Path(given.model).is_dir():  # no Hub id: not asked
        meant, listed = suggest(given.model, known), ", ".join(known)
        raise UserError(f"--model={given.model}: no such folder{meant}; or a Hub id, OWNER/NAME, or one of: {listed}")
    if given.k > given.n_frames:
        raise UserError(f"--k={given.k}: only --n-frames={given.n_frames} are sampled; choose k at most that")
    if given.actors and not _is_folder(given):
        raise UserError(f"--actors={given.actors}: write parts of many answers; name --questions FILE --out FOLDER")
    if given.out:
        _check_out(given)
    if given.frames:
        check_place("--frames", given.frames / "0.jpg")


def _check_out(given: argparse.Namespace) -> None:
    if _is_folder(given):
        return check_place("--out", given.out / "0.jsonl")
    wanted = (".jsonl",) if given.questions else OUTPUTS
    if given.out.suffix not in wanted:
        folder = ", or a folder's" if given.questions else ""
        raise UserError(f"--out={given.out}: expected a name that ends in {' or '.join(wanted)}{folder}")
    check_place("--out", given.out)
    check_other("--out", given.out, {"--questions": given.questions})


def _is_folder(given: argparse.Namespace) -> bool:
    """Whether answers go to a folder: one that is there, or a name without an ending."""
    return bool(given.questions and given.out and (given.out.is_dir() or not given.out.suffix))


def _check_not_input(given: argparse.Namespace, video: str) -> None:
    """UserError for an output that is the video, or lies among its frames."""
    for key, place in (("--out", given.out), ("--frames", given.frames and given.frames / "0.jpg")):
        if place:
            check_other(key, place, {"VIDEO": video})
            if Path(video).is_dir() and place.resolve().parent == Path(video).resolve():
                raise UserError(f"{key}={getattr(given, key[2:])}: lies among the frames of {video}")


# -- a file of questions ---


def _answer_many(given: argparse.Namespace) -> None:
    _check(given)
    rows, own = _check_rows(given)  # a fault of any row is known before anything slow begins
    if given.actors:
        faults = _by_actors(given, rows)
    else:
        faults = _into_folder(given, own) if _is_folder(given) else _into_file(given, own)
    faults.check()


def _by_actors(given: argparse.Namespace, rows: int) -> Faults:
    with loading("Ray, PyTorch and transformers"):
        from sevila.answers import about, answer_folder

        try:
            from sevila.ray_answers import answer_by_ray
        except ImportError as error:
            raise UserError(f"--actors={given.actors}: Ray is not installed ({error}); pip install .[ray]") from None
    with answer_folder(given.out / given.shard.folder, {**about(given), "by": "Ray"}) as folder:
        answer_by_ray(given, folder, rows)
    print(f"written: {folder.path / 'parts'}, {folder.faults.answers} answers")
    return folder.faults


def _into_folder(given: argparse.Namespace, total: int) -> Faults:
    """Rows are appended as they are made, and those that are there already are not made again."""
    with loading("PyTorch and transformers"):
        from sevila.answers import about, answer_folder, load
    with answer_folder(given.out / given.shard.folder, {**about(given), "by": "sevila"}) as folder:
        if len(folder.done) < total:  # a model that nobody asks is not loaded
            answering = load(given)
            for together in _rows(answering, given, total, folder.done):
                folder.append([row for _, row in together])
            _warn(answering.model)
    print(f"written: {folder.file}, {folder.faults.answers} answers")
    return folder.faults


def _into_file(given: argparse.Namespace, total: int) -> Faults:
    """All rows together, in the order of the questions; without a file they are printed."""
    with loading("PyTorch and transformers"):
        from sevila.answers import Faults, load
    answering = load(given)
    made = [pair for together in _rows(answering, given, total) for pair in together]
    rows = [row for _, row in sorted(made, key=itemgetter(0))]
    faults = Faults()
    faults.count(rows)
    try:
        if given.out:
            write_jsonl(given.out, rows)
            print(f"written: {given.out}, {faults.answers} answers")
    finally:  # also where there is no room for the file: the answers are not lost
        if not given.out or sys.exception() is not None:
            ascii = not knows_unicode(sys.stdout)
            print("".join(json_line(row, ascii) for row in rows), end="")
    _warn(answering.model)
    return faults


def _check_rows(given: argparse.Namespace) -> tuple[int, int]:
    """How many rows a file has, and its shard. UserError for any row that cannot be asked, of whatever shard."""
    rows, own, folder = 0, 0, _is_folder(given)
    names: set[str] = set()
    for asked in read_questions(given.questions):
        if not folder:
            _check_not_input(given, asked.question.video)
        elif asked.question.qid in names:
            raise UserError(
                f"{given.questions}, line {asked.line}, field qid: {asked.question.qid!r} stands there twice, and in a "
                "folder rows are told apart by it; mend it, or leave all of them out"
            )
        else:
            names.add(asked.question.qid)
        rows += 1
        own += given.shard.holds(asked.video)
    return rows, own


def _rows(
    answering: Answering, given: argparse.Namespace, total: int, done: Collection[str] = ()
) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """The shard's rows as they are made, with the numbers of their lines, and a bar of how many there are."""
    made = len(done)
    read = windows(read_questions(given.questions), given.window)
    groups = (group for window in read for group in by_video(window, given.shard))
    with ProgressBar("questions by video", total, made) as bar:
        for rows in answering.rows(groups, done):
            yield rows
            made += len(rows)
            bar.update(made)
        bar.finish(made)


# -- one question ---


def _answer_one(given: argparse.Namespace) -> None:
    for name in ("video", "question"):
        if getattr(given, name) is None:
            raise UserError(f"{name.upper()} is missing: sevila predict VIDEO QUESTION OPTION OPTION ...")
    asked = question("0", {"video": given.video, "question": given.question, "options": given.options}, "")
    _check(given)
    _check_not_input(given, asked.video)
    from sevila.data.folders import AnyFile

    AnyFile().path(asked.video)  # a name that is wrong is told before PyTorch is there
    with loading("PyTorch and transformers"):
        from sevila.answers import load, result
    answering = load(given, asked.video)
    model = answering.model
    (found,) = answering.found(model.encode(asked.video, given.n_frames), [asked])
    _show(model, asked, found, result(found), given)
    _warn(model)


def _show(
    model: SeViLA, question: Question, found: Answer | Localization, row: dict[str, Any], given: argparse.Namespace
) -> None:
    """Print what was found, and write the files that were asked for."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

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
