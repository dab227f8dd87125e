"""What was measured, beside what was published: as json, as markdown, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reproduction.cells import TITLES, Cell, Row, Table, Value
from reproduction.runs import Ledger, Settings
from sevila.files import read_json

HEADINGS = ("row", "", "data set", "measure", "published", "measured", "difference")


@dataclass(frozen=True)
class Line:
    """One number of a table: published (text where there is none of its own), and measured (None: not yet)."""

    row: Row
    data: str
    measure: str
    published: float | str
    measured: Value | None = None

    @property
    def difference(self) -> float | None:
        if self.measured is None or not isinstance(self.published, float):
            return None
        return self.measured.mean - self.published

    def texts(self) -> tuple[str, ...]:
        """The line under HEADINGS; what is not there is empty."""
        measured = "" if self.measured is None else str(self.measured)
        difference = "" if self.difference is None else f"{self.difference:+.2f}"
        about = f"{self.row.title}; {self.row.note}".strip("; ") if self.row.note else self.row.title
        return self.row.label, about, TITLES.get(self.data, ""), self.measure, str(self.published), measured, difference

    def to_json(self) -> dict[str, Any]:
        measured = self.measured
        return {
            "row": self.row.label,
            "data": self.data,
            "measure": self.measure,
            "published": self.published,
            "measured": None if measured is None else round(measured.mean, 4),
            "sd": None if measured is None or measured.sd is None else round(measured.sd, 4),
            "seeds": 0 if measured is None else measured.seeds,
            "difference": None if self.difference is None else round(self.difference, 4),
            "note": self.row.note,
        }


def lines(table: Table, settings: Settings, seeds: Sequence[int]) -> Iterator[Line]:
    """Every number of a table, from the run folders that are there."""
    for row in table.rows:
        for cell in row.cells:
            yield from _of_cell(row, cell, settings, seeds)


def _of_cell(row: Row, cell: Cell, settings: Settings, seeds: Sequence[int]) -> Iterator[Line]:
    found = list(_metrics(cell, settings, seeds))
    names, numbers = cell.measure.names, cell.numbers
    if numbers is not None and len(numbers) == 1 < len(names):
        raise ValueError(f"{cell}: one number for {names}")
    for i, name in enumerate(names):
        values = [value for value in (cell.measure.read(metrics)[i] for metrics in found) if value is not None]
        published = cell.published if numbers is None else numbers[i]
        yield Line(row, cell.data, name, published, Value.of(values) if values else None)


def _metrics(cell: Cell, settings: Settings, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """metrics.json of every seed that was made with these settings; of a run that no seed changes, once."""
    if cell.run is None:
        return
    ledger = Ledger(settings)
    for seed in seeds if cell.run.trained else seeds[:1]:
        path = settings.folder(cell.run, seed) / "metrics.json"
        if path.exists() and ledger.fits(cell.run, seed):
            yield read_json(path)


def markdown(table: Table, found: Sequence[Line], settings: Settings) -> str:
    """The table as a page; a row's label and title stand before its first number only."""
    said = [f"{key} {_plain(value)}" for key, value in settings.describe().items() if value]
    head = [f"# Table {table.number}: {table.title}", ""]
    if said:
        head += [f"Measured with {'; '.join(said)}.", ""]
    head += [_bar(HEADINGS), _bar(["---"] * len(HEADINGS))]
    return "\n".join(head + [_bar(texts) for texts in rows(found)]) + "\n"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        value = [f"{key}={item}" for key, item in value.items()]
    return " ".join(value) if isinstance(value, list) else str(value)


def rows(found: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    """The lines as texts, repeated labels and data sets left out."""
    before: Line | None = None
    for line in found:
        texts = list(line.texts())
        if before is not None and before.row is line.row:
            texts[:2] = "", ""
            if before.data == line.data:
                texts[2] = ""
        before = line
        yield tuple(texts)


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def document(table: Table, found: Sequence[Line], settings: Settings, seeds: Sequence[int]) -> dict[str, Any]:
    """The same for json."""
    return {
        "table": table.number,
        "title": table.title,
        "seeds": list(seeds),
        "settings": settings.describe(),
        "lines": [line.to_json() for line in found],
    }
