"""Results of frozen heads, kept: keyframes and pseudo-labels in the store, over epochs and runs; answers in a run's
folder, until it is done.

A table's name is the digest of all that its rows depend on: the weights of head and language model, who made the
patches, the number of frames, the selection. A row holds the results of all questions that are asked about a video
together, for they share batches, and a language model's last digits depend on a batch's shape. Its key is the content
of these questions: the video's bytes, the clip, the tokens of every prompt. Nothing goes by names, so a renamed file is
known again and a changed one is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from sevila.data.dataset import VideoSource, by_video
from sevila.data.records import Question
from sevila.data.sampling import PLAIN
from sevila.data.store import Store
from sevila.data.store_files import Table, row_key, warn
from sevila.errors import UserError
from sevila.model.digest import digest
from sevila.model.head import Head
from sevila.model.sevila import SeViLA
from sevila.selection.rules import Selector
from sevila.selection.scorers import GroupScorer, LocalizerScorer, Scorer

T = TypeVar("T")
BLOCK = 64  # videos whose rows are written together: what an interrupted run has made is not lost
ANSWERS = 8  # the same for answers, which take longer


class ResultCache:
    """Rows of one table for questions: those that are known are read, the others made and added."""

    def __init__(self, table: Table, key: Callable[[Sequence[Question]], str], block: int | None = None) -> None:
        self.table, self.key, self.block = table, key, block or BLOCK

    def each(
        self,
        questions: Sequence[Question],
        make: Callable[[list[int]], Iterable[tuple[int, T]]],
        to_row: Callable[[T], Mapping[str, Any]],
        from_row: Callable[[Question, Mapping[str, Any]], T],
    ) -> Iterator[tuple[int, T]]:
        """(place, result) of every question: first those that are known, then the others as they are made.

        make   gives (place, result) for the places among `questions` that it is told, video by video
        Nothing is held but the rows that are not written yet.
        """
        left: dict[str, list[list[int]]] = {}  # key -> the groups of this content that have no results
        for places in by_video(questions):
            left.setdefault(self.key([questions[place] for place in places]), []).append(places)
        for key, row in self.table.each():
            for places in left.pop(key, ()):
                if _fits(row, [questions[place] for place in places], from_row):
                    yield from _results(row, places, questions, from_row)
                else:
                    warn(f"{self.table.folder}: the row {key} is not of its kind: made again")
                    left.setdefault(key, []).append(places)
        group_of = {place: (key, places) for key, groups in left.items() for places in groups for place in places}
        made: dict[int, T] = {}
        new: dict[str, dict[str, Any]] = {}
        try:
            for place, result in make(sorted(group_of)) if group_of else ():
                made[place] = result
                key, together = group_of[place]
                if all(other in made for other in together):
                    new[key] = {"results": [to_row(made.pop(other)) for other in together]}
                    yield from _results(new[key], together, questions, from_row)
                if len(new) == self.block:
                    self.table.add(new)
                    new = {}
        finally:
            self.table.add(new)


def _results(
    row: Mapping[str, Any],
    places: Sequence[int],
    questions: Sequence[Question],
    from_row: Callable[[Question, Mapping[str, Any]], T],
) -> Iterator[tuple[int, T]]:
    for place, result in zip(places, row["results"], strict=True):
        yield place, from_row(questions[place], result)


def _fits(
    row: Mapping[str, Any], asked: Sequence[Question], from_row: Callable[[Question, Mapping[str, Any]], Any]
) -> bool:
    """Whether a stored row holds a result for each of the questions, and nothing that cannot be one."""
    try:
        for question, result in zip(asked, row["results"], strict=True):
            from_row(question, result)
    except (KeyError, TypeError, ValueError):
        return False
    return True


def choices(
    model: SeViLA, source: VideoSource, selector: Selector, scorer: Scorer | None, store: Store
) -> ResultCache | None:
    """The keyframes that the model's Localizer, as it is now, makes a selector choose.

    None where others score the frames, or nobody: those have files of their own, or take no time.
    """
    if not selector.needs_scores or not isinstance(scorer, LocalizerScorer | None):
        return None
    reading = {"frames": scorer.frames} if isinstance(scorer, GroupScorer) else {}
    about = {
        **_facts(model, source, store, model.localizer.head),
        "selector": {"name": type(selector).__name__, **asdict(selector)},
        "scorer": {"name": (LocalizerScorer if scorer is None else type(scorer)).__name__, **reading},
    }

    def key(questions: Sequence[Question]) -> str:
        texts = [model.prompts.localize(q.question, q.options) for q in questions]
        return row_key(*_content(model, source, store, questions, texts))

    return ResultCache(store.table("keyframes", about), key)


def labels(model: SeViLA, source: VideoSource, store: Store, orders: int) -> ResultCache:
    """The pseudo-labels of the model's Answerer, as it is now, asked in so many orders of the options."""
    about = {**_facts(model, source, store, model.answerer.head), "orders": orders}

    def key(questions: Sequence[Question]) -> str:
        texts = [model.prompts.answer(q.question, q.options) for q in questions]
        asked = [(len(q.options), q.answer) for q in questions]
        return row_key(*_content(model, source, store, questions, texts), asked)

    return ResultCache(store.table("pseudo_labels", about), key)


def answers(model: SeViLA, source: VideoSource, folder: Path) -> ResultCache:
    """The answers of one run, whose settings are the same when it is resumed; its heads are compared.

    A video is known again by its file's place, size and time: its bytes are not read for this.
    """
    heads = {"localizer": digest(model.localizer.head), "answerer": digest(model.answerer.head)}

    def key(asked: Sequence[Question]) -> str:
        first = asked[0]
        try:
            file = source.folder.path(first.video)
        except UserError as error:  # as for a video that cannot be read
            raise UserError(f"record {first.qid} (video {first.video}): {error}") from error
        about = file.stat()
        texts = [[f(q.question, q.options) for f in (model.prompts.localize, model.prompts.answer)] for q in asked]
        return row_key(str(file), about.st_size, about.st_mtime_ns, first.clip, [q.qid for q in asked], texts)

    return ResultCache(Table(folder, "answers", heads), key, ANSWERS)


def _facts(model: SeViLA, source: VideoSource, store: Store, head: Head) -> dict[str, Any]:
    backbone = model.backbone
    return {
        "head": digest(head),
        "language": digest(backbone.language),
        "prefixes": [backbone.prefix(number) for number in (None, 1)],
        "tokens in a pass": backbone.tokens,
        "patches": store.id,
        "frames": source.n_frames,
    }


def _content(
    model: SeViLA, source: VideoSource, store: Store, questions: Sequence[Question], texts: Sequence[str]
) -> tuple[str, Any, list[list[int]]]:
    """The video's bytes, the stretch of it, and the tokens of each prompt as far as they are read."""
    video = store.place(source.folder.path(questions[0].video), PLAIN).video
    return video, questions[0].clip, [model.backbone.text([text])[0][0].tolist() for text in texts]
