"""A benchmark that stands in annotation files: what the readers of all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from sevila.benchmarks.rows import Dropped
from sevila.data.check import find_faults
from sevila.data.folders import Videos
from sevila.data.records import Moment, Question
from sevila.errors import UserError

R = TypeVar("R", Question, Moment)
Reader = Callable[[list[Dropped] | None], list[R]]  # the list takes bad rows; None: they raise


class FromFiles:
    """Records of a split from its annotation file, which is read when it is asked for.

    questions, moments   split -> reader of its file
    folder               makes the benchmark's videos; called once
    prompts              the wording it was published with
    drop_bad_rows        leave out rows that are malformed instead of stopping at the first
    drop_unreadable      leave out records whose video is missing or cannot be read, or whose clip lies outside it:
                         every video is opened once, which takes a while
    """

    def __init__(
        self,
        name: str,
        folder: Callable[[], Videos],
        questions: Mapping[str, Reader[Question]] | None = None,
        moments: Mapping[str, Reader[Moment]] | None = None,
        prompts: str = "question",
        drop_bad_rows: bool = False,
        drop_unreadable: bool = False,
    ) -> None:
        self.name, self.prompts = name, prompts
        self.drop_bad_rows, self.drop_unreadable = drop_bad_rows, drop_unreadable
        self._make_folder, self._folder = folder, None
        self._questions, self._moments = dict(questions or {}), dict(moments or {})
        self.question_splits, self.moment_splits = tuple(self._questions), tuple(self._moments)
        self._dropped: dict[str, list[Dropped]] = {}

    @property
    def dropped(self) -> Sequence[Dropped]:
        """What was left out of the splits read so far, in the order of the files."""
        return [row for rows in self._dropped.values() for row in rows]

    def questions(self, split: str) -> list[Question]:
        """The questions of a split. UserError for another split, a missing file, a malformed row, none left."""
        return self._read(self._questions, "questions", split)

    def moments(self, split: str) -> list[Moment]:
        """The moment queries of a split. UserError as `questions`."""
        return self._read(self._moments, "moment queries", split)

    def folder(self) -> Videos:
        if self._folder is None:
            self._folder = self._make_folder()
        return self._folder

    def _read(self, readers: Mapping[str, Reader[R]], what: str, split: str) -> list[R]:
        if not readers:
            raise UserError(f"data {self.name} has no {what}: choose another data set")
        if split not in readers:
            raise UserError(f"split={split}: {self.name} has {what} for {', '.join(readers)}")
        dropped: list[Dropped] = []
        found = readers[split](dropped if self.drop_bad_rows else None)
        if self.drop_unreadable:
            faults = find_faults(found, self.folder())
            dropped += [Dropped(f"video {r.video}", faults[r.qid].reason, r.qid) for r in found if r.qid in faults]
            found = [record for record in found if record.qid not in faults]
        if not found:
            left = f" left, {len(dropped)} were dropped" if dropped else ""
            raise UserError(f"split={split}: {self.name} has no {what}{left}; look at its annotation file")
        self._dropped[split] = [Dropped(d.place, d.reason, d.qid, split) for d in dropped]
        return found


def files(root: str, **named: str | None) -> dict[str, Path]:
    """Annotation files by split, below `root` unless absolute; a split whose file is null is left out."""
    return {split: Path(root) / name for split, name in named.items() if name is not None}
