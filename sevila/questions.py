"""Files of questions, jsonl or csv, as a stream: rows are checked, cut into windows, grouped by video, divided."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any

from sevila.data.records import Question
from sevila.errors import UserError
from sevila.files import HALF_CHARACTER, HALF_CHARACTER_FAULT, home_path, numbered_jsonl, text_lines
from sevila.model.prompts import letters

WINDOW = 1024  # rows that are held at a time: those of one video among them share one decoding


@dataclass(frozen=True)
class Asked:
    """A question, and the number and all fields of the line that asks it."""

    line: int
    question: Question
    fields: Mapping[str, Any]

    @property
    def video(self) -> str:
        """As the line names it, which is the same on every machine."""
        return str(self.fields["video"])


@dataclass(frozen=True)
class Shard:
    """Part `number` of `among`, from 1: all rows of the videos whose names' hashes fall to it."""

    number: int = 1
    among: int = 1

    @classmethod
    def of(cls, text: str) -> Shard:
        """From I/N. UserError for anything else."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"--shard={text}: expected I/N, from 1/N to N/N")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.among}"

    @property
    def folder(self) -> str:
        """Where its answers stand below those of the others; the whole has no folder of its own."""
        return "" if self.among == 1 else f"shard-{self.number}-of-{self.among}"

    def holds(self, video: str) -> bool:
        """Whether a video, by the name that rows give it, belongs to this part."""
        number = int.from_bytes(hashlib.sha256(video.encode()).digest()[:8], "big")
        return number % self.among == self.number - 1


WHOLE = Shard()


def read_questions(file: Path) -> Iterator[Asked]:
    """The questions of a file, read as they are asked for. UserError names the line of one that is malformed."""
    if file.suffix not in (".jsonl", ".csv"):
        raise UserError(f"--questions={file}: expected a name that ends in .jsonl or .csv")
    line = 0
    for line, row in _csv_rows(file) if file.suffix == ".csv" else numbered_jsonl(file):
        yield Asked(line, question(str(row.get("qid", line)), row, f"{file}, line {line}, ", file.parent), row)
    if line == 0:
        raise UserError(f"{file}: holds no question")


def windows(rows: Iterable[Asked], size: int = WINDOW) -> Iterator[list[Asked]]:
    """The rows in pieces of `size`. They are cut from the whole file, whatever the shard, so that the same rows come
    together in every shard: a language model's last digits depend on who is asked beside whom."""
    rows = iter(rows)
    while window := list(islice(rows, size)):
        yield window


def by_video(window: Sequence[Asked], shard: Shard = WHOLE) -> list[list[Asked]]:
    """The rows about each video of a shard, in the order in which the videos first appear."""
    groups: dict[str, list[Asked]] = {}
    for asked in window:
        groups.setdefault(asked.video, []).append(asked)
    return [group for video, group in groups.items() if shard.holds(video)]


def question(qid: str, row: Mapping[str, Any], where: str, folder: Path | None = None) -> Question:
    """The question of a row, its video as seen from `folder`. UserError for one that cannot be asked.

    where   what an error begins with
    """
    for key, kind, wanted in (("video", str, "text"), ("question", str, "text"), ("options", list, "a list")):
        if not isinstance(row.get(key, [] if kind is list else None), kind):
            raise UserError(f"{where}field {key}: expected {wanted}, found {row.get(key)!r}")
    video, text, options = row["video"], row["question"], tuple(row.get("options", ()))
    told = [option for option in options if isinstance(option, str)]
    if HALF_CHARACTER.search("\n".join((qid, video, text, *told))):
        texts = (("qid", qid), ("video", video), ("question", text), *(("options", option) for option in told))
        key, value = next((key, value) for key, value in texts if HALF_CHARACTER.search(value))
        raise UserError(f"{where}field {key}: {value!r} {HALF_CHARACTER_FAULT}")
    if not text.strip():
        raise UserError(f"{where}field question: is empty")
    if options and (len(options) < 2 or len(told) < len(options) or "" in told):
        raise UserError(f"{where}options: a question needs at least 2 options, each a text; found {list(options)}")
    try:
        letters(max(2, len(options)))
    except UserError as error:
        raise UserError(f"{where}options: {error}") from None
    return Question(qid, _seen_from(folder, video) if folder is not None else video, text, options)


@lru_cache(maxsize=WINDOW)
def _seen_from(folder: Path, video: str) -> str:
    return str(folder / home_path(video))


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines of a csv, options in the columns a0, a1, ... (empty ones at the end are none)."""
    reader = csv.DictReader(text_lines(file))
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{file}, line {reader.line_num}: has not as many fields as the first line")
            options = list(takewhile(bool, (row.get(f"a{i}") for i in count())))
            yield reader.line_num, {**row, "options": options}
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}") from None
