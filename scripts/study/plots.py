"""The plots of the study: rows, curves over k and n, pseudo-labels, claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sevila.report.figures import png_bytes
from sevila.report.page import Picture
from study.claims import Finding
from study.intervals import Estimate, Panel, curves_figure, dots_figure, points_figure, svg_text
from study.outcomes import MEASURES, Values
from study.rows import SELECTIONS, Row
from study.tables import claim_name, row_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS = ("rows", "keyframes", "frames", "pseudo_labels", "claims")


@dataclass(frozen=True)
class Plot:
    """A figure, and in words what it shows."""

    figure: Figure
    alt: str
    caption: str

    @property
    def png(self) -> bytes:
        return png_bytes(self.figure)

    @property
    def picture(self) -> Picture:
        return Picture(svg_text(self.figure), self.alt, self.caption)


def plots(
    values: Values, found: Sequence[Finding], refinements: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Plot]]:
    """(file name, plot) of everything there are rows for."""
    main = [selection for selection in SELECTIONS if values.has(selection) or values.has(f"{selection}_ft")]
    if main:
        yield "rows", _main_plot(values, main)
    for group, name, xlabel in (("k", "keyframes", "keyframes k"), ("n", "frames", "sampled frames n")):
        rows = [row for row in values.rows if row.group == group]
        if rows:
            yield name, _curve_plot(values, rows, group, xlabel)
    if refinements:
        yield "pseudo_labels", _label_plot(refinements)
    if found:
        yield "claims", _claim_plot(found)


def _known(values: Values, key: str, measure: str) -> Estimate | None:
    return values.estimate(key, measure) if values.has(key) else None


def _main_plot(values: Values, main: Sequence[str]) -> Plot:
    ends = {"zero-shot Answerer": "", "fine-tuned Answerer": "_ft"}
    accuracy = {name: [_known(values, f"{key}{end}", "accuracy") for key in main] for name, end in ends.items()}
    series = {name: estimates for name, estimates in accuracy.items() if any(estimates)}
    chosen = [_known(values, key, "recall") or _known(values, f"{key}_ft", "recall") for key in main]
    panels = [Panel("accuracy, percent", series), Panel("keyframe recall, percent", {next(iter(series)): chosen})]
    labels = [SELECTIONS[key] for key in main]
    said = [
        f"{name}, {label}: {estimate}"
        for name, estimates in series.items()
        for label, estimate in zip(labels, estimates, strict=True)
        if estimate is not None
    ]
    return Plot(
        dots_figure(labels, panels),
        f"Accuracy by row: {'; '.join(said)}.",
        "Accuracy and keyframe recall by row, with 95 % intervals. Both Answerers of a row see the same frames.",
    )


def _curve_plot(values: Values, rows: Sequence[Row], group: str, xlabel: str) -> Plot:
    places = sorted({getattr(row.numbers, group) for row in rows})
    panels = []
    for measure, name in MEASURES.items():
        series: dict[str, list[Estimate | None]] = {}
        for row in rows:
            if measure == "recall" and row.answerer == "fine-tuned":
                continue  # the same frames, the same recall
            curve = series.setdefault(_curve_name(row), [None] * len(places))
            curve[places.index(getattr(row.numbers, group))] = values.estimate(row.key, measure)
        panels.append(Panel(f"{name}, percent", series))
    said = "; ".join(f"{row_name(row)} {values.estimate(row.key, 'accuracy')}" for row in rows)
    return Plot(curves_figure(places, panels, xlabel), f"Accuracy over {xlabel}: {said}.", f"Over {xlabel}.")


def _curve_name(row: Row) -> str:
    return row.title if row.answerer == "zero-shot" else f"{row.title}, fine-tuned"


def _label_plot(found: Sequence[Mapping[str, Any]]) -> Plot:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in found:
        series.setdefault(row["refinement"], []).append((row["precision"], row["recall_gain"]))
    said = "; ".join(f"{name}: {', '.join(f'({x:g}, {y:.2f})' for x, y in points)}" for name, points in series.items())
    xlabel, ylabel = "precision of the pseudo-labels, percent", "gain in keyframe recall, points"
    return Plot(
        points_figure(series, xlabel, ylabel),
        f"{ylabel} over {xlabel}: {said}.",
        "Every world and seed of a refinement.",
    )


def _claim_plot(found: Sequence[Finding]) -> Plot:
    labels = [f"{claim_name(finding.claim)}, {finding.claim.measure}" for finding in found]
    panel = Panel("effect, points", {"effect": [finding.effect for finding in found]})
    said = "; ".join(f"{label} {finding.effect}" for label, finding in zip(labels, found, strict=True))
    return Plot(dots_figure(labels, [panel], line=0.0), f"Effects: {said}.", "Effects with 95 % intervals.")
