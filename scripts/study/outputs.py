"""What the study leaves beside its runs: tables, plots, claims, environment, one page. Equal runs give equal files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevila.files import write_bytes, write_json, write_text
from sevila.report.figures import png_bytes
from sevila.report.page import Block, Facts, Heading, Picture, Table, Text, write_page
from study import tables
from study.claims import PAPER, RULE, Claim, Finding, findings
from study.intervals import Estimate, Panel, curves_figure, dots_figure, points_figure, svg_text
from study.outcomes import MEASURES, Outcomes, Values, write_outcomes
from study.rows import GROUPS, SELECTIONS, Row
from study.schedule import duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# -- the plots: rows, curves over k and n, pseudo-labels, claims ---

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
    said = "; ".join(f"{tables.row_name(row)} {values.estimate(row.key, 'accuracy')}" for row in rows)
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
    labels = [f"{tables.claim_name(finding.claim)}, {finding.claim.measure}" for finding in found]
    panel = Panel("effect, points", {"effect": [finding.effect for finding in found]})
    said = "; ".join(f"{label} {finding.effect}" for label, finding in zip(labels, found, strict=True))
    return Plot(dots_figure(labels, [panel], line=0.0), f"Effects: {said}.", "Effects with 95 % intervals.")


# -- all files ---

PSEUDO_LABELS = "pseudo_labels"
OUTCOMES = "outcomes.npz"
LEFT_OUT = (
    "Left out: scorer=clip (there is no CLIP of this world) and selector=windows (no moment-retrieval model's spans)."
)


@dataclass(frozen=True)
class Study:
    """All that was measured: the numbers, what follows for the claims, and where it comes from."""

    values: Values
    found: Sequence[Finding]
    unmeasured: Sequence[Claim]
    refinements: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]

    @classmethod
    def of(cls, outcomes: Outcomes) -> Study:
        """What follows from the outcomes of the runs."""
        values = Values(outcomes)
        return cls(values, *findings(values), tables.refinements(values), outcomes.environment)


def write_all(outcomes: Outcomes, out: Path) -> Study:
    """Write the outcomes, and everything that follows from them."""
    study = Study.of(outcomes)
    write_outcomes(outcomes, out / OUTCOMES)
    write(study, out)
    return study


def write(study: Study, out: Path) -> None:
    """Write everything that follows from the outcomes into the folder."""
    write_json(out / "claims.json", [finding.to_json() for finding in study.found])
    write_text(out / "claims.md", tables.claims_markdown(study.values, study.found, study.unmeasured))
    write_json(out / "environment.json", study.environment)
    made = {name: (document, text) for name, document, text in _tables(study)}
    for name, (document, text) in made.items():
        write_json(out / "tables" / f"{name}.json", document)
        write_text(out / "tables" / f"{name}.md", text)
    drawn = dict(plots(study.values, study.found, study.refinements))
    for name, plot in drawn.items():
        write_bytes(out / "plots" / f"{name}.png", plot.png)
    _forget(out, set(made), set(drawn))
    pictures = {name: plot.picture for name, plot in drawn.items()}
    write_page(out / "report.html", tables.TITLE, list(page(study, pictures)))


def _tables(study: Study) -> Iterator[tuple[str, Any, str]]:
    """Every table that has rows: its name, and its two forms."""
    for group, title in GROUPS.items():
        rows = [row for row in study.values.rows if row.group == group]
        if rows:
            document = {"title": title, "rows": [tables.row_json(study.values, row) for row in rows]}
            yield group, document, tables.rows_markdown(study.values, group, rows)
    if study.refinements:
        yield PSEUDO_LABELS, list(study.refinements), tables.refinements_markdown(study.refinements)


def _forget(out: Path, kept: Set[str], pictures: Set[str]) -> None:
    """Remove the tables and plots of an earlier call that this one, with fewer rows, has not."""
    for name in {*GROUPS, PSEUDO_LABELS} - kept:
        for suffix in (".json", ".md"):
            (out / "tables" / f"{name}{suffix}").unlink(missing_ok=True)
    for name in set(PLOTS) - pictures:
        (out / "plots" / f"{name}.png").unlink(missing_ok=True)


def page(study: Study, pictures: Mapping[str, Picture]) -> Iterator[Block]:
    """The page; rows and claims are told in words there, by their keys everywhere else."""
    values = study.values
    names = {row.key: tables.row_name(row) for row in values.rows}
    yield Facts(_facts(study))
    yield Text(RULE)
    yield Text(tables.targets(values))
    for title, found in tables.parts(study.found):
        yield Heading(title)
        cells_of = [(tables.claim_name(finding.claim), *tables.claim_cells(finding)[1:]) for finding in found]
        yield Table(tables.CLAIM_HEADINGS, cells_of)
        for finding in found:
            if finding.claim.part == PAPER:
                yield Text(tables.sentence(finding, names))
    if study.unmeasured:
        yield Text(tables.unmeasured_text(study.unmeasured))
    yield from _shown(pictures, "claims")
    after = {"main": "rows", "k": "keyframes", "n": "frames"}
    for group, title in GROUPS.items():
        rows = [row for row in values.rows if row.group == group]
        if rows:
            yield Heading(title)
            means = [tables.cells(values, row)[1:] for row in rows]
            yield Table(("row", *tables.HEADINGS[2:]), means, tables.caption(values))
            by_type = [(tables.row_name(row), *tables.type_cells(values, row)[1:]) for row in rows]
            yield Table(tables.type_headings(values, rows[0]), by_type, "By question type.")
            yield from _shown(pictures, after.get(group, ""))
            if group == "selectors":
                yield Text(LEFT_OUT)
    if study.refinements:
        yield Heading("Pseudo-labels and what refinement gained")
        yield Table(tables.REFINEMENT_HEADINGS, [tables.refinement_cells(row) for row in study.refinements])
        yield from _shown(pictures, PSEUDO_LABELS)


def _shown(pictures: Mapping[str, Picture], name: str) -> Iterator[Block]:
    if name in pictures:
        yield pictures[name]


def _facts(study: Study) -> dict[str, str]:
    about = study.environment
    facts = {
        "Worlds (seeds)": ", ".join(map(str, about["worlds"])),
        "Training seeds": ", ".join(map(str, about["seeds"])),
        "Test questions": str(study.values.count()),
        "Frames, keyframes": f"n = {study.values.default.n}, k = {study.values.default.k} where nothing else is said",
        "Settings": " ".join(about["set"]) or "none",
        "Runs": f"{about['runs']}; {duration(about['run_seconds'])} of work, in {duration(about['wall_seconds'])}",
        "Commit": ", ".join(map(str, about["commits"])),
        "Versions": ", ".join(f"{name} {'/'.join(found)}" for name, found in about["versions"].items()),
        "Machine": "; ".join([*about["platforms"], *about["devices"]]),
    }
    if study.values.missing:
        facts["Rows that are not complete"] = ", ".join(row.key for row in study.values.missing)
    return facts
