"""What a table consists of: rows of cells, each a published number and the run that measures it here; and the numbers
so measured, as json, as markdown, on the terminal."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reproduction.runs import Ledger, Run, Settings
from sevila.files import read_json

WIDTH = 120  # of a line
TITLES = {
    "nextqa": "NExT-QA",
    "star": "STAR",
    "how2qa": "How2QA",
    "tvqa": "TVQA",
    "vlep": "VLEP",
    "qvhighlights": "QVHighlights",
}


@dataclass(frozen=True)
class Measure:
    """Numbers of an evaluation: what the paper calls them, and where they stand in metrics.json."""

    names: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]

    def read(self, metrics: Mapping[str, Any]) -> tuple[float | None, ...]:
        """The numbers in percent; None for one that is not there (a data set without questions of a type)."""
        return tuple(_at(metrics, key) for key in self.keys)


def _at(node: Any, key: Sequence[str]) -> float | None:
    for name in key:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


ACCURACY = Measure(("Acc",), (("accuracy",),))
BY_GROUP = Measure(
    ("Tem", "Cau", "Des", "Avg"),
    (*(("accuracy_by_type", group) for group in "TCD"), ("accuracy",)),
)
STAR_TYPES = ("Interaction", "Sequence", "Prediction", "Feasibility")
BY_STAR_TYPE = Measure(
    ("Int", "Seq", "Pre", "Fea", "Avg"),
    (*(("accuracy_by_type", qtype) for qtype in STAR_TYPES), ("mean_over_types",)),
)
ANY_FRAME = Measure(("Acc",), (("oracle_any_frame",),))
MOMENTS = Measure(("R1@0.5", "R1@0.7", "mAP"), (("R1@0.5",), ("R1@0.7",), ("mAP",)))
COST = Measure(("GB", "seconds"), (("gb",), ("seconds",)))


@dataclass(frozen=True)
class Cell:
    """One data set of one row.

    published   as the paper prints it: 61.3/61.5/75.6/63.6, one number for each of the measure's names; or "-",
                where the row is this project's
    run         the evaluation that measures it; None where it is not ours to run
    """

    data: str
    published: str
    run: Run | None
    measure: Measure = ACCURACY

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """The published numbers, None where there are none."""
        try:
            return tuple(float(part) for part in self.published.split("/"))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{TITLES[self.data]} {self.published}"


@dataclass(frozen=True)
class Row:
    """A row: its label (what `--rows` takes), what it is, its cells; and why it is not run, if so."""

    label: str
    title: str
    cells: tuple[Cell, ...]
    note: str = ""

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(cell.run for cell in self.cells if cell.run is not None)


@dataclass(frozen=True)
class Table:
    number: str
    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Value:
    """A number measured with one seed or several: mean, and standard deviation (of the sample) from two on."""

    mean: float
    sd: float | None = None
    seeds: int = 1

    @classmethod
    def of(cls, values: Sequence[float]) -> Value:
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.sd is None else f"{self.mean:.2f} ± {self.sd:.2f}"


def headers(tables: Sequence[Table], exp: str) -> Iterator[str]:
    """The lines that stand at the head of an experiment's file: the rows it measures, with the published numbers.

    Where a row needs other options than the file's, they stand behind its label.
    """
    for table in tables:
        for row in table.rows:
            cells = [cell for cell in row.cells if cell.run is not None and cell.run.exp == exp]
            if cells:
                options = " ".join(cells[0].run.variation)
                where = f"# Table {table.number}, row {row.label}" + (f" ({options})" if options else "")
                yield from wrapped(f"{where}: {', '.join(map(str, cells))}")


def served(tables: Sequence[Table], exp: str) -> list[str]:
    """The lines of a training's file: the rows that build on it."""
    uses = []
    for table in tables:
        labels = [row.label for row in table.rows if any(_builds_on(run, exp) for run in row.runs)]
        if labels:
            uses.append(f"table {table.number}: {' '.join(labels)}")
    return wrapped(f"# For {'; '.join(uses)}")


def _builds_on(run: Run, exp: str) -> bool:
    return any(needed.exp == exp or _builds_on(needed, exp) for needed in run.needs)


def wrapped(comment: str) -> list[str]:
    return textwrap.wrap(comment, WIDTH, subsequent_indent="#   ", break_on_hyphens=False)


# -- what was measured, beside what was published ---

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
    differing = [f"{key} {_plain(value)}" for key, value in settings.describe().items() if value]
    head = [f"# Table {table.number}: {table.title}", ""]
    if differing:
        head += [f"Measured with {'; '.join(differing)}.", ""]
    return "\n".join([*head, *grid(HEADINGS, list(rows(found)))]) + "\n"


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


def grid(headings: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> list[str]:
    """The lines of a table in markdown."""

    def line(cells: Sequence[str | int | float]) -> str:
        return f"| {' | '.join(f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in cells)} |"

    return [line(headings), line(["---"] * len(headings)), *map(line, rows)]


def document(table: Table, found: Sequence[Line], settings: Settings, seeds: Sequence[int]) -> dict[str, Any]:
    """The same for json."""
    return {
        "table": table.number,
        "title": table.title,
        "seeds": list(seeds),
        "settings": settings.describe(),
        "lines": [line.to_json() for line in found],
    }
