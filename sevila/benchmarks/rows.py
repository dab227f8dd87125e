"""Annotation files as rows that know where they stand, so that a fault can be mended: file, line, field."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from sevila.data.records import Moment, Question, Window
from sevila.errors import UserError
from sevila.files import (
    HALF_CHARACTER,
    HALF_CHARACTER_FAULT,
    BadJson,
    json_lines,
    parse_json,
    read_json,
    read_text,
)

R = TypeVar("R", Question, Moment)


@dataclass(frozen=True)
class Row:
    """A row of an annotation file.

    line     its number; in a json file, which may be one line, the row's; from 1
    fault    why the row could not be read at all, "" where it could
    """

    path: Path
    line: int
    values: Mapping[str, Any]
    unit: str = "line"
    fault: str = ""

    @property
    def place(self) -> str:
        return f"{self.path}, {self.unit} {self.line}"

    def fail(self, field: str, problem: str) -> UserError:
        return UserError(f"{self.place}, field {field}: {problem}")

    def checked(self) -> Row:
        """Itself. UserError where it could not be read."""
        if self.fault:
            raise UserError(f"{self.place}: {self.fault}")
        return self

    def text(self, field: str) -> str:
        value = self.values.get(field)
        if not isinstance(value, str):
            raise self.fail(field, "missing" if value is None else f"expected text, found {shown(value)}")
        return self.whole(field, value)[0]

    def whole(self, field: str, *texts: str) -> tuple[str, ...]:
        """The texts as they stand. UserError for one that holds half a character: no tokenizer or file takes it."""
        for text in texts:
            if HALF_CHARACTER.search(text):
                raise self.fail(field, f"{shown(text)} {HALF_CHARACTER_FAULT}")
        return texts

    def name(self, field: str) -> str:
        """An id: text that is not empty, or a whole number."""
        value = self.values.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not self.text(field).strip():
            raise self.fail(field, "empty")
        return self.text(field)

    def texts(self, pattern: str, count: int) -> tuple[str, ...]:
        """The fields a0, a1, ... for the pattern "a{}"."""
        return tuple(self.text(pattern.format(i)) for i in range(count))

    def integer(self, field: str, low: int, high: int) -> int:
        """A whole number from low to high, written as one."""
        number = whole_number(self.values.get(field))
        if number is None or not low <= number <= high:
            found = shown(self.values.get(field))
            raise self.fail(field, f"expected a whole number from {low} to {high}, found {found}")
        return number

    def choice(self, field: str, options: Sequence[str]) -> int:
        """The index of the option whose text stands in the field; of equal options the first."""
        value = self.text(field)
        if value not in options:
            raise self.fail(field, f"{shown(value)} is none of the options {', '.join(map(shown, options))}")
        return options.index(value)

    def number(self, field: str) -> float:
        """A finite number that is not negative."""
        value = self.values.get(field)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
            raise self.fail(field, f"expected a number of at least 0, found {shown(value)}")
        return float(value)

    def clip(self, field: str, start: Any, end: Any) -> Window | None:
        """A clip from its two ends in seconds, numbers or their texts; None, the whole video, where one is NaN.

        A clip may be a point (start = end), and may end past the video: sampling cuts it there.
        """
        try:
            first, last = float(start), float(end)
        except (TypeError, ValueError, OverflowError):
            found = f"{shown(start)} and {shown(end)}"
            raise self.fail(field, f"expected start and end in seconds, found {found}") from None
        if math.isnan(first) or math.isnan(last):
            return None
        if not 0 <= first <= last < math.inf:
            raise self.fail(field, f"{first} to {last} s is no stretch of time")
        return first, last

    def span(self, field: str, separator: str = "-", brackets: str = "") -> Window | None:
        """A clip written as one text: "36.58-58.52", or "[7.2:18.0]"."""
        start, _, end = self.text(field).strip().strip(brackets or None).partition(separator)
        return self.clip(field, start, end)

    def pair(self, field: str) -> Window | None:
        """A clip written as a list [start, end]."""
        value = self.values.get(field)
        if not isinstance(value, list) or len(value) != 2:
            raise self.fail(field, f"expected [start, end] in seconds, found {shown(value)}")
        return self.clip(field, *value)

    def windows(self, field: str) -> tuple[Window, ...]:
        """A list of [start, end]."""
        pairs = self.values.get(field)
        windows = windows_of(pairs)
        if windows is None:
            raise self.fail(field, f"expected a list of [start, end], found {shown(pairs)}")
        if any(not start <= end for start, end in windows):
            raise self.fail(field, f"a window ends before it starts: {shown(pairs)}")
        return windows


def windows_of(pairs: Any) -> tuple[Window, ...] | None:
    """A list of [start, end] as windows, or None where it is something else."""
    try:
        windows = tuple((float(start), float(end)) for start, end in pairs)
    except (TypeError, ValueError, OverflowError):
        return None
    return windows if all(map(math.isfinite, chain.from_iterable(windows))) else None


def whole_number(value: Any) -> int | None:
    """A whole number or its text, also as pandas writes it (1.0) in a column with gaps; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,20}(\.0+)?\s*", value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def shown(value: Any) -> str:
    """A value for an error's line, shortened."""
    text = repr(value[:200] if isinstance(value, str) else value)
    return text if len(text) <= 100 else f"{text[:100]}..."


@dataclass(frozen=True)
class Dropped:
    """A row or record that was left out because that was asked for.

    place    where it stands: "FILE, line 3", or the video
    reason   one line
    """

    place: str
    reason: str
    qid: str | None = None
    split: str = ""

    def to_json(self) -> dict[str, Any]:
        """A line of dropped.jsonl."""
        return {"split": self.split, "place": self.place, "qid": self.qid, "reason": self.reason}


def records(rows: Iterable[Row], parse: Callable[[Row], R], dropped: list[Dropped] | None = None) -> list[R]:
    """Every row as a record. A bad row, or a qid that stood before, raises UserError; with a list it goes there."""
    kept: dict[str, tuple[int, R]] = {}
    for row in rows:
        try:
            record = parse(row.checked())
            if record.qid in kept:
                raise row.fail("qid", f"{record.qid!r} stands in {row.unit} {kept[record.qid][0]} already")
            kept[record.qid] = row.line, record
        except UserError as error:
            if dropped is None:
                raise
            dropped.append(Dropped(row.place, str(error)))
    return [record for _, record in kept.values()]


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a csv file with a header (`columns` it must have), a jsonl file, or a json list."""
    if path.suffix == ".csv":
        return csv_rows(path, columns)
    if path.suffix == ".jsonl":
        return jsonl_rows(path)
    if path.suffix == ".json":
        return json_rows(path)
    raise UserError(f"{path}: an annotation file is named .csv, .jsonl or .json")


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a csv file with a header; UserError for a missing column."""
    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    header = reader.fieldnames or ()
    twice = next((column for column, count in Counter(header).items() if column and count > 1), None)
    if twice is not None:
        raise UserError(f"{path}, line 1: column {twice!r} stands there twice: remove one")
    missing = [column for column in columns if column not in header]
    if missing:
        raise UserError(f"{path}, line 1: no column {', '.join(missing)}; has {', '.join(header)}")
    try:
        for values in reader:
            whole = None not in values and None not in values.values()
            yield Row(path, reader.line_num, values, fault="" if whole else f"expected {len(header)} fields")
    except csv.Error as error:
        line = reader.reader.line_num  # the DictReader's own counts whole rows only
        raise UserError(f"{path}, line {line}: not valid csv: {error}") from None


def headless_csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a csv file without a header, under the names given."""
    reader = csv.reader(io.StringIO(read_text(path)), strict=True)
    try:
        for cells in reader:
            if cells:
                fault = "" if len(cells) == len(columns) else f"expected {len(columns)} fields, found {len(cells)}"
                yield Row(path, reader.line_num, dict(zip(columns, cells, strict=False)), fault=fault)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid csv: {error}") from None


def jsonl_rows(path: Path) -> Iterator[Row]:
    """The rows of a file with one JSON object a line; empty lines are passed over."""
    for number, line in json_lines(read_text(path)):
        try:
            values = parse_json(line)
        except BadJson as error:
            yield Row(path, number, {}, fault=str(error))
            continue
        yield _object_row(path, number, values, "line")


def json_rows(path: Path) -> Iterator[Row]:
    """The rows of a json file that holds a list of objects, or a single one."""
    values = read_json(path)
    if isinstance(values, dict):
        values = [values]
    if not isinstance(values, list):
        raise UserError(f"{path}: expected a list of rows, found {type(values).__name__}")
    for number, row in enumerate(values, start=1):
        yield _object_row(path, number, row, "row")


def _object_row(path: Path, number: int, values: Any, unit: str) -> Row:
    if isinstance(values, dict):
        return Row(path, number, values, unit)
    return Row(path, number, {}, unit, fault=f"not a JSON object but {type(values).__name__}")
