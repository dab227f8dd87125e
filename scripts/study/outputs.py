"""What the study leaves beside its runs: tables, plots, claims, environment, one page. Equal runs give equal files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevila.files import write_bytes, write_json, write_text
from sevila.report.page import Block, Facts, Heading, Picture, Table, Text, write_page
from study import tables
from study.claims import PAPER, RULE, Claim, Finding, findings
from study.outcomes import Outcomes, Values, write_outcomes
from study.plots import PLOTS, plots
from study.rows import GROUPS
from study.schedule import duration

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
