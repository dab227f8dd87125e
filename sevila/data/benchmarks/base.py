"""What every benchmark hands over, and how its readers report a malformed row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sevila.data.folders import VideoFolder
from sevila.data.records import Moment, Question
from sevila.errors import UserError
from sevila.files import read_text


class Benchmark(Protocol):
    """Records by split, and where their videos are."""

    def questions(self, split: str) -> list[Question]:
        """The questions of `train`, `val` or `test`. UserError where the benchmark has none."""
        ...

    def moments(self, split: str) -> list[Moment]:
        """The moment queries of a split. UserError where the benchmark has none."""
        ...

    def videos(self) -> VideoFolder: ...


@dataclass(frozen=True)
class Row:
    """A row of an annotation file that knows where it stands, for errors that can be mended."""

    path: Path
    line: int
    values: Mapping[str, Any]

    def fail(self, field: str, problem: str) -> UserError:
        return UserError(f"{self.path}, line {self.line}, field {field}: {problem}")

    def text(self, field: str) -> str:
        value = self.values.get(field)
        if not isinstance(value, str):
            raise self.fail(field, "missing" if value is None else f"expected text, found {value!r}")
        return value

    def integer(self, field: str, low: int, high: int) -> int:
        """A whole number from low to high, written as one."""
        value = self.values.get(field)
        try:
            number = int(value) if not isinstance(value, (bool, float)) else None
        except (TypeError, ValueError):
            number = None
        if number is None or not low <= number <= high:
            raise self.fail(field, f"expected a whole number from {low} to {high}, found {value!r}")
        return number

    def number(self, field: str) -> float:
        """A finite number that is not negative."""
        value = self.values.get(field)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise self.fail(field, f"expected a number of at least 0, found {value!r}")
        return float(value)


def csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """The rows of a csv file with a header; UserError for a missing column or a row of another length."""
    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}, line 1: no column {', '.join(missing)}; has {', '.join(reader.fieldnames or ())}")
    try:
        for values in reader:
            row = Row(path, reader.line_num, values)
            if None in values or None in values.values():
                raise UserError(f"{path}, line {row.line}: expected {len(reader.fieldnames or ())} fields")
            yield row
    except csv.Error as error:
        line = reader.reader.line_num  # the DictReader's own counts whole rows only
        raise UserError(f"{path}, line {line}: not valid csv: {error}") from None
