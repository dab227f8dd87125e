"""What a table consists of: rows of cells, each a published number and the run that measures it here."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reproduction.runs import Run

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
