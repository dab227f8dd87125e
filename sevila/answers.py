"""Answers to many questions: a row each, made video by video, and the folder that they are appended to."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import Any, BinaryIO

from sevila.api import SeViLA
from sevila.checkpoints.heads import ROLES, ZEROSHOT, find_head
from sevila.cli import loading
from sevila.data.dataset import FrameDataset, Sample
from sevila.data.decoders import decoder_for
from sevila.data.folders import AnyFile
from sevila.data.loading import stream
from sevila.data.records import Question
from sevila.data.sampling import EvaluationFrames
from sevila.data.video import CachedVideos
from sevila.errors import UserError
from sevila.files import TEMPORARY_MARK, file_digest, json_line, naming, numbered_jsonl, read_json, write_json
from sevila.locks import LOCK, FolderLock, Held
from sevila.model.precision import DTYPES, PRECISIONS, find_device, find_precision
from sevila.model.sevila import Answer, EncodedVideo, Localization
from sevila.questions import Asked
from sevila.selection import SELECTORS
from sevila.selection.rules import Selector

TOGETHER = 64  # questions about a video that are asked in one call: their rows are written before the next are asked
PREDICTIONS, ABOUT = "predictions.jsonl", "predict.json"
BLOCK = 2**20


# -- from videos to rows ---


@dataclass(frozen=True)
class Unreadable:
    """In the place of a video's frames: why there are none. Nothing of it is `stored`."""

    why: str
    stored: None = None


class _Videos(FrameDataset):
    """Frames by the question that asks about them, so that videos may come from a stream of any length."""

    def __getitem__(self, question: Question) -> Sample | Unreadable:  # type: ignore[override]
        try:
            return self.sample(question, (0, 0))
        except UserError as error:
            return Unreadable(str(error))


@dataclass(frozen=True)
class Answering:
    """The model, the rule that picks k of `n_frames`, and how many processes decode videos ahead of the model."""

    model: SeViLA
    selector: Selector
    n_frames: int
    workers: int = 0

    def rows(
        self, groups: Iterable[Sequence[Asked]], done: Collection[str] = ()
    ) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """The rows of groups of questions about one video each, in their order, as they are made; with their lines.

        done   names of questions that have a row already. Those that are asked beside others are asked again, so that
               these get the same answers to the bit, but give no row

        A video is opened when its turn comes, with workers two a worker ahead of it. One that cannot be read costs its
        own rows, which have an `error`.
        """
        left = (group for group in groups if not all(each.question.qid in done for each in group))
        here, ahead = tee(left)
        dataset = _Videos([], self.model.videos, AnyFile(), EvaluationFrames(self.n_frames), store=self.model.store)
        pin = self.model.model.backbone.device.type == "cuda"
        samples = stream(dataset, self.workers, (group[0].question for group in ahead), pin)
        for group, sample in zip(here, samples, strict=True):
            # once, however many ask about it
            video = sample if isinstance(sample, Unreadable) else self.model.encode_sample(sample)
            for start in range(0, len(group), TOGETHER):
                together = group[start : start + TOGETHER]
                new = [each.question.qid not in done for each in together]
                if any(new):
                    made = zip(together, self._results(video, together), new, strict=True)
                    yield [(asked.line, _row(asked, result)) for asked, result, wanted in made if wanted]

    def found(self, encoded: EncodedVideo, questions: Sequence[Question]) -> list[Answer | Localization]:
        """What is found for questions about one video, patches [T, P, Dv]; keyframes alone for those without options.

        UserError where they cannot be asked.
        """
        found: dict[int, Answer | Localization] = {}
        closed = [i for i, question in enumerate(questions) if question.options]
        if closed:
            texts, options = [questions[i].question for i in closed], [questions[i].options for i in closed]
            found |= zip(closed, self.model.answer(encoded, texts, options, selector=self.selector), strict=True)
        without = [i for i, question in enumerate(questions) if not question.options]
        if without:
            queries = [questions[i].question for i in without]
            found |= zip(without, self.model.localize(encoded, queries, selector=self.selector), strict=True)
        return [found[i] for i in range(len(questions))]

    def _results(self, video: EncodedVideo | Unreadable, asked: Sequence[Asked]) -> list[dict[str, Any]]:
        if isinstance(video, Unreadable):
            return [{"error": video.why} for _ in asked]
        try:
            return [result(each) for each in self.found(video, [each.question for each in asked])]
        except UserError as error:
            return [{"error": str(error)} for _ in asked]


def load(given: Namespace, video: str | None = None) -> Answering:
    """The model as a command line describes it.

    UserError for the one `video` that cannot be read, or is too short, before the model is loaded.
    """
    device = find_device(given.device)
    # a video alone has nothing to be decoded ahead of: all cores work at it
    ahead = 2 if device.type == "cuda" and video is None else 0
    workers = ahead if given.workers is None else given.workers
    # the size is the model's, and nothing is kept of a video that had its turn
    videos = CachedVideos(0, cache_bytes=0, decoder=decoder_for(given.decoder, workers), known=1)
    for role in ROLES:
        _head_file(given, role)
    if video is not None and videos.info(video).length < given.k:
        raise UserError(f"--k={given.k}: {video} has only {videos.info(video).length} frames; choose k at most that")
    with loading(f"the model {given.source}"):
        model = SeViLA.load(given.source, given.localizer, given.answerer, device, given.precision)
    backbone = model.model.backbone
    videos.size, model.videos = backbone.image_size, videos
    if given.store is not None:
        from sevila import build
        from sevila.schema import Store

        model.store = build.store(Store(given.store), backbone, videos)
    if given.precision == "auto":
        name = next(name for name, dtype in DTYPES.items() if dtype == backbone.dtype)
        print(f"sevila: precision auto takes {name} here", file=sys.stderr)
    return Answering(model, SELECTORS[given.selector](given.k), given.n_frames, workers)


def about(given: Namespace) -> dict[str, Any]:
    """All that the rows of a file of questions depend on, by a command line's names. UserError for no such head."""
    heads = {role: _head_file(given, role) for role in ROLES}
    precision = find_precision(given.precision, find_device(given.device))
    return {
        "questions": file_digest(given.questions)[:16],
        "shard": str(given.shard),
        "model": given.source,
        **{role: file_digest(file)[:16] if file else ZEROSHOT for role, file in heads.items()},
        **{name: getattr(given, name) for name in ("selector", "k", "n_frames", "decoder", "window")},
        "precision": next(name for name in PRECISIONS if PRECISIONS[name] == precision),
    }


def _head_file(given: Namespace, role: str) -> Path | None:
    place = getattr(given, role)
    return None if place == ZEROSHOT else find_head(place, role)


def result(found: Answer | Localization) -> dict[str, Any]:
    """As in predictions.jsonl of a run: the option's number and text, what speaks for each, keyframes, all frames."""
    row = found.to_dict()
    if "option" not in row:
        return row
    names = {"option": "prediction", "text": "answer", "logits": "option_logits"}
    return {names.get(key, key): value for key, value in row.items()}


def _row(asked: Asked, result: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the line that asks, and what was found."""
    return {**asked.fields, "qid": asked.question.qid, "video": asked.question.video, **result}


@dataclass
class Faults:
    """How many of the rows have an error, and the first of these."""

    rows: int = 0
    failed: int = 0
    first: str = ""

    def count(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self.rows += 1
            if "error" in row:
                self.failed, self.first = self.failed + 1, self.first or row["error"]

    @property
    def answers(self) -> int:
        return self.rows - self.failed

    def check(self) -> None:
        """UserError where a question has no answer."""
        if self.failed:
            raise UserError(f"{self.failed} of {self.rows} questions have no answer; the first: {self.first}")


# -- the folder that they go to ---


@contextmanager
def answer_folder(path: Path, about: Mapping[str, Any]) -> Iterator[AnswerFolder]:
    """The folder, made where it is not there, and this process's own until the block ends. UserError as it says."""
    lock = FolderLock()
    with naming(path):
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(path)
        except Held as holder:
            raise UserError(f"--out={path}: {holder} is at work in it; wait for its end") from None
    try:
        yield AnswerFolder(path, about)
    finally:
        lock.release()


class AnswerFolder:
    """predictions.jsonl, to which rows are appended, and predict.json, which says what of.

    about   all that the rows depend on; a folder that was begun with something else is refused
    done    names of the questions that had a row when it was opened. A line that a killed process left half is dropped
    faults  how many rows have an error, and the first of these

    UserError for a folder that holds other things, where another process is at work in it, or a row is damaged.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self.file = path, path / PREDICTIONS
        self.faults = Faults()
        self._begin(about)
        self.done = set(self._rows())

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows. At return they are in the file, whatever becomes of this process."""
        with naming(self.file), self.file.open("a", encoding="utf-8", newline="\n") as file:
            file.write("".join(map(json_line, rows)))
        self.faults.count(rows)

    def _begin(self, about: Mapping[str, Any]) -> None:
        """Write what the rows are of, or see that they are of the same."""
        file = self.path / ABOUT
        if not file.is_file():
            if any(name != LOCK and TEMPORARY_MARK not in name for name in os.listdir(self.path)):
                raise UserError(f"--out={self.path}: holds other things than answers; name an empty or new folder")
            return write_json(file, about)
        before = read_json(file)
        for key in about:
            if not isinstance(before, dict) or before.get(key) != about[key]:
                was = before.get(key) if isinstance(before, dict) else None
                raise UserError(
                    f"--out={self.path}: was begun with {key}={was}, now {key}={about[key]}; "
                    "go on with the same, or name another folder"
                )

    def _rows(self) -> Iterator[str]:
        """The names of the questions that have a row, after the half line at the end is gone."""
        if not self.file.is_file():
            return
        with self.file.open("r+b") as file:
            file.truncate(_whole(file))
        for line, row in numbered_jsonl(self.file):
            if not isinstance(row.get("qid"), str):
                raise UserError(f"{self.file}, line {line}: has no qid; remove the line, and it is made again")
            self.faults.count([row])
            yield row["qid"]


def _whole(file: BinaryIO) -> int:
    """The bytes of a file up to its last line end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - BLOCK)
        file.seek(start)
        last = file.read(end - start).rfind(b"\n")
        if last >= 0:
            return start + last + 1
        end = start
    return 0
