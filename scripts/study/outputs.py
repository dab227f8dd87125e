"""What the study leaves beside its runs: tables, plots, claims, environment, one page. Equal runs give equal files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevila.files import read_json, write_bytes, write_json, write_text
from sevila.metrics.bootstrap import Estimate
from sevila.report.intervals import Panel, curves_figure, dots_figure, points_figure
from sevila.report.page import Block, Facts, Heading, Picture, Table, Text, write_page
from study.choices import CHOOSE
from study.claims import RULE, Claim, Finding
from study.rows import GROUPS, SELECTIONS, Numbers, Row, Runs
from study.schedule import Job, Times, duration
from study.values import MEASURES, Values

LEFT_OUT = (
    "Left out: scorer=clip (there is no CLIP of this world) and selector=windows (no moment-retrieval model's spans)."
)
REFINEMENTS = {  # selection: the one it was refined from, and what this is called
    "sr": ("zero_shot", "SR"),
    "pt_sr": ("pt", "PT + SR"),
    "pt_sr_x2": ("pt_sr", "second round"),
    "pt_sr_published": ("pt", "PT + SR, published labels"),
    "true_windows": ("zero_shot", "true windows"),
}
QUESTIONS, SEEDS = 1000, 5  # that a study must have
TITLE = "SeViLA's claims on the embedded world"


@dataclass(frozen=True)
class Study:
    """All that was measured: the numbers, what follows for the claims, and where it comes from."""

    values: Values
    default: Numbers
    found: Sequence[Finding]
    unmeasured: Sequence[Claim]
    refinements: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]


def write(study: Study, out: Path) -> None:
    """Write everything into the folder."""
    write_json(out / "claims.json", [finding.to_json() for finding in study.found])
    write_text(out / "claims.md", claims_markdown(study))
    write_json(out / "environment.json", study.environment)
    for group in GROUPS:
        rows = [row for row in study.values.rows if row.group == group]
        if rows:
            document = {"title": GROUPS[group], "rows": [row_json(study.values, row) for row in rows]}
            write_json(out / "tables" / f"{group}.json", document)
            write_text(out / "tables" / f"{group}.md", rows_markdown(study.values, group, rows))
    write_json(out / "tables" / "pseudo_labels.json", list(study.refinements))
    write_text(out / "tables" / "pseudo_labels.md", refinements_markdown(study.refinements))
    pictures = {name: picture for name, picture in plots(study)}
    for name, picture in pictures.items():
        write_bytes(out / "plots" / f"{name}.png", picture.png)
    write_page(out / "report.html", TITLE, list(page(study, pictures)))


# -- tables ---


def row_json(values: Values, row: Row) -> dict[str, Any]:
    """A row with its numbers: means and intervals, by question type, and of every world and seed."""
    out: dict[str, Any] = {
        "row": row.key,
        "title": row.title,
        "selection": row.selection,
        "answerer": row.answerer,
        "n": row.numbers.n,
        "k": row.numbers.k,
        "run": row.run.name,
        "seeds": len(values.seeds) if row.run.trained else 1,
    }
    for measure in MEASURES:
        out[measure] = {
            **values.estimate(row.key, measure).to_json(),
            "questions": values.counted(row.key, measure),
            "by_type": {qtype: round(mean, 4) for qtype, mean in values.type_means(row.key, measure).items()},
            "by_world": {
                str(world): [round(mean, 4) for mean in values.seed_means(row.key, measure, world)]
                for world in values.questions
            },
        }
    return out


HEADINGS = ("row", "", "Answerer", "n", "k", "accuracy", "keyframe recall")


def _cells(values: Values, row: Row) -> tuple[str | int, ...]:
    estimates = [str(values.estimate(row.key, measure)) for measure in MEASURES]
    return row.key, row.title, row.answerer, row.numbers.n, row.numbers.k, *estimates


def _types(values: Values, row: Row) -> tuple[str | float, ...]:
    return row.key, *(mean for measure in MEASURES for mean in values.type_means(row.key, measure).values())


def _type_headings(values: Values, row: Row) -> tuple[str, ...]:
    means = [(name, values.type_means(row.key, measure)) for measure, name in MEASURES.items()]
    return "row", *(f"{name}, {qtype}" for name, types in means for qtype in types)


def rows_markdown(values: Values, group: str, rows: Sequence[Row]) -> str:
    """A table of rows, percent with intervals, then the same rows by question type."""
    head = [f"# {GROUPS[group]}", "", _caption(values), ""]
    body = _markdown(HEADINGS, [_cells(values, row) for row in rows])
    types = _markdown(_type_headings(values, rows[0]), [_types(values, row) for row in rows])
    return "\n".join([*head, *body, "", "By question type:", "", *types]) + "\n"


def _caption(values: Values) -> str:
    worlds = ", ".join(map(str, values.questions))
    return (
        f"Percent with 95 % intervals; test questions: {values.count()}, worlds: {worlds}, trainings of a row in a "
        f"world: {len(values.seeds)}, where anything is trained. Recall: true frames chosen of those that k frames "
        "could choose, over the questions that have a true frame among the n sampled ones."
    )


def refinements(values: Values, default: Numbers) -> list[dict[str, Any]]:
    """Every refinement: the precision and recall of its labels, and what the test questions gained by it."""
    runs, out = Runs(default), []
    for selection, (before, name) in REFINEMENTS.items():
        if not (values.has(selection) and values.has(before)):
            continue
        run = runs.localizer(selection)
        for world in values.questions:
            for i, seed in enumerate(values.seeds):
                metrics = read_json(values.worlds.folder(world, run, seed) / "metrics.json")
                row: dict[str, Any] = {"refinement": name, "world": world, "seed": seed}
                row |= {key: metrics[f"pseudo_label_{key}"] for key in ("precision", "recall", "yes")}
                for measure in MEASURES:
                    means = [values.seed_means(key, measure, world) for key in (before, selection)]
                    start, end = (mean[i] if len(mean) > 1 else mean[0] for mean in means)
                    row[f"{measure}_gain"] = round(end - start, 4)
                out.append(row)
    return out


REFINEMENT_HEADINGS = (
    "refinement",
    "world",
    "seed",
    "label precision",
    "label recall",
    "yes",
    "recall gain",
    "accuracy gain",
)


def _refinement_cells(row: Mapping[str, Any]) -> tuple[str | int | float, ...]:
    keys = ("refinement", "world", "seed", "precision", "recall", "yes", "recall_gain", "accuracy_gain")
    cells = [row[key] for key in keys]
    return tuple(str(cell) if key in ("world", "seed") else cell for key, cell in zip(keys, cells, strict=True))


def refinements_markdown(found: Sequence[Mapping[str, Any]]) -> str:
    head = ["# Pseudo-labels and what refinement gained", ""]
    head += ["Of the labels of the training questions, in percent; gains on the test questions, in points.", ""]
    return "\n".join(head + _markdown(REFINEMENT_HEADINGS, [_refinement_cells(row) for row in found])) + "\n"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> list[str]:
    def line(cells: Sequence[str | int | float]) -> str:
        return f"| {' | '.join(f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in cells)} |"

    return [line(headings), line(["---"] * len(headings)), *map(line, rows)]


# -- claims ---


def targets(values: Values) -> str:
    """What was asked for beforehand, and whether this study is large enough to say."""
    text = (
        "Set beforehand, for worlds never used in development: the zero-shot Localizer beats uniform frames by 20 "
        "points of accuracy; pre-training, and refinement after it, help in keyframe recall and in accuracy, "
        "fine-tuning helps the Answerer on the same keyframes, and the oracle is highest, each with its interval above "
        "0; from one keyframe to as many as an event needs accuracy falls by less than 2 points, by the interval's "
        f"lower end; training on true windows gives 10 points of recall; at least {QUESTIONS} test questions and "
        f"{SEEDS} trainings."
    )
    few = []
    if values.count() < QUESTIONS:
        few.append(f"{values.count()} test questions")
    if len(values.seeds) < SEEDS:
        few.append(f"trainings of each row: {len(values.seeds)}")
    return f"{text} This study is smaller ({', '.join(few)}): its verdicts count for nothing." if few else text


CLAIM_HEADINGS = ("claim", "measure", "verdict", "effect", "bound", "target", "questions", "seeds")


def _claim_cells(finding: Finding) -> tuple[str | int | float, ...]:
    claim = finding.claim
    target = "" if claim.target is None else f"{claim.target:g}: {_reached(finding)}"
    effect = f"{finding.effect.mean:+.2f} [{finding.effect.low:+.2f}, {finding.effect.high:+.2f}]"
    name, bound = MEASURES[claim.measure], f"{claim.bound:g}"
    return claim.name, name, finding.verdict, effect, bound, target, finding.n, finding.seeds


def _reached(finding: Finding) -> str:
    return "reached" if finding.effect.mean >= (finding.claim.target or 0.0) else "missed"


def sentence(finding: Finding) -> str:
    """A claim in words."""
    claim, effect = finding.claim, finding.effect
    others = claim.others[0] if len(claim.others) == 1 else f"the best of {', '.join(claim.others)}"
    worlds = "; ".join(f"world {world}: {estimate.mean:+.2f}" for world, estimate in finding.by_world.items())
    target = "" if claim.target is None else f" The target of {claim.target:g} points is {_reached(finding)}."
    return (
        f"{claim.name} ({MEASURES[claim.measure]}): {finding.verdict}. Claim: {claim.text}. {claim.better} against "
        f"{others}: {effect.mean:+.2f} points, 95 % interval {effect.low:+.2f} to {effect.high:+.2f} ({worlds})."
        f"{target}"
    )


def _parts(study: Study) -> Iterator[tuple[str, list[Finding]]]:
    """The paper's claims, then the others; headings."""
    yield "The paper's claims", [finding for finding in study.found if not finding.claim.extra]
    yield "Further comparisons", [finding for finding in study.found if finding.claim.extra]


def _unmeasured(study: Study) -> str:
    names = dict.fromkeys(f"{claim.name} ({MEASURES[claim.measure]})" for claim in study.unmeasured)
    return f"Not measured, because rows are missing: {', '.join(names)}." if names else ""


def claims_markdown(study: Study) -> str:
    lines = [f"# {TITLE}", "", RULE, "", targets(study.values), ""]
    for title, found in _parts(study):
        if found:
            lines += [f"## {title}", "", *_markdown(CLAIM_HEADINGS, [_claim_cells(finding) for finding in found]), ""]
            lines += [f"- {sentence(finding)}" for finding in found] + [""]
    return "\n".join([*lines, *filter(None, [_unmeasured(study)])]).rstrip() + "\n"


# -- plots ---


def plots(study: Study) -> Iterator[tuple[str, Picture]]:
    """(file name, picture) of everything there are rows for."""
    values = study.values
    main = [selection for selection in SELECTIONS if values.has(selection) or values.has(f"{selection}_ft")]
    if main:
        yield "rows", _main_plot(values, main)
    for group, name, xlabel in (("k", "keyframes", "keyframes k"), ("n", "frames", "sampled frames n")):
        rows = [row for row in values.rows if row.group == group]
        if rows:
            yield name, _curve_plot(values, rows, group, xlabel)
    if study.refinements:
        yield "pseudo_labels", _label_plot(study.refinements)
    if study.found:
        yield "claims", _claim_plot(study.found)


def _known(values: Values, key: str, measure: str) -> Estimate | None:
    return values.estimate(key, measure) if values.has(key) else None


def _main_plot(values: Values, main: Sequence[str]) -> Picture:
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
    return Picture.of(
        dots_figure(labels, panels),
        f"Accuracy by row: {'; '.join(said)}.",
        "Accuracy and keyframe recall by row, with 95 % intervals. Both Answerers of a row see the same frames.",
    )


def _curve_plot(values: Values, rows: Sequence[Row], group: str, xlabel: str) -> Picture:
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
    said = "; ".join(f"{row.key} {values.estimate(row.key, 'accuracy')}" for row in rows)
    return Picture.of(curves_figure(places, panels, xlabel), f"Accuracy over {xlabel}: {said}.", f"Over {xlabel}.")


def _curve_name(row: Row) -> str:
    return row.title if row.answerer == "zero-shot" else f"{row.title}, fine-tuned"


def _label_plot(found: Sequence[Mapping[str, Any]]) -> Picture:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in found:
        series.setdefault(row["refinement"], []).append((row["precision"], row["recall_gain"]))
    said = "; ".join(f"{name}: {', '.join(f'({x:g}, {y:.2f})' for x, y in points)}" for name, points in series.items())
    xlabel, ylabel = "precision of the pseudo-labels, percent", "gain in keyframe recall, points"
    return Picture.of(
        points_figure(series, xlabel, ylabel),
        f"{ylabel} over {xlabel}: {said}.",
        "Every world and seed of a refinement.",
    )


def _claim_plot(found: Sequence[Finding]) -> Picture:
    labels = [f"{finding.claim.name}, {finding.claim.measure}" for finding in found]
    panel = Panel("effect, points", {"effect": [finding.effect for finding in found]})
    said = "; ".join(f"{label} {finding.effect}" for label, finding in zip(labels, found, strict=True))
    return Picture.of(dots_figure(labels, [panel], line=0.0), f"Effects: {said}.", "Effects with 95 % intervals.")


# -- the page ---


def page(study: Study, pictures: Mapping[str, Picture]) -> Iterator[Block]:
    values = study.values
    yield Facts(_facts(study))
    yield Text(RULE)
    yield Text(targets(values))
    for title, found in _parts(study):
        if found:
            yield Heading(title)
            yield Table(CLAIM_HEADINGS, [_claim_cells(finding) for finding in found])
            for finding in found:
                if not finding.claim.extra:
                    yield Text(sentence(finding))
    if study.unmeasured:
        yield Text(_unmeasured(study))
    yield from _shown(pictures, "claims")
    after = {"main": "rows", "k": "keyframes", "n": "frames"}
    for group, title in GROUPS.items():
        rows = [row for row in values.rows if row.group == group]
        if rows:
            yield Heading(title)
            yield Table(HEADINGS, [_cells(values, row) for row in rows], _caption(values))
            yield Table(_type_headings(values, rows[0]), [_types(values, row) for row in rows], "By question type.")
            yield from _shown(pictures, after.get(group, ""))
            if group == "selectors":
                yield Text(LEFT_OUT)
    if study.refinements:
        yield Heading("Pseudo-labels and what refinement gained")
        yield Table(REFINEMENT_HEADINGS, [_refinement_cells(row) for row in study.refinements])
        yield from _shown(pictures, "pseudo_labels")


def _shown(pictures: Mapping[str, Picture], name: str) -> Iterator[Block]:
    if name in pictures:
        yield pictures[name]


def _facts(study: Study) -> dict[str, str]:
    about = study.environment
    facts = {
        "Worlds (seeds)": ", ".join(map(str, about["worlds"])),
        "Training seeds": ", ".join(map(str, about["seeds"])),
        "Test questions": str(study.values.count()),
        "Frames, keyframes": f"n = {study.default.n}, k = {study.default.k} where nothing else is said",
        "Settings": " ".join(about["set"]) or "none",
        "Runs": f"{about['runs']}; {duration(about['run_seconds'])} of work, in {duration(about['wall_seconds'])}",
        "Commit": ", ".join(map(str, about["commits"])),
        "Versions": ", ".join(f"{name} {'/'.join(found)}" for name, found in about["versions"].items()),
        "Machine": "; ".join([*about["platforms"], *about["devices"]]),
    }
    if study.values.missing:
        facts["Rows that are not complete"] = ", ".join(row.key for row in study.values.missing)
    return facts


def environment(
    jobs: Sequence[Job], root: Path, worlds: Sequence[int], seeds: Sequence[int], words: Sequence[str]
) -> dict[str, Any]:
    """Where the finished runs come from, by what they wrote themselves: equal runs give an equal answer."""
    jobs = [job for job in jobs if job.run.entry != CHOOSE]
    done = [job for job in jobs if job.done]
    read = [read_json(job.folder / "environment.json") for job in done]
    times = Times(root)
    names = sorted({name for one in read for name in one["packages"]})
    versions = {
        "sevila": _different(one["sevila"] for one in read),
        "python": _different(one["python"] for one in read),
    }
    versions |= {name: _different(one["packages"][name] for one in read) for name in names}
    folders = {job.folder.relative_to(root).as_posix() for job in done}
    return {
        "worlds": list(worlds),
        "seeds": list(seeds),
        "set": list(words),
        "runs": len(done),
        "runs_missing": len(jobs) - len(done),
        "run_seconds": round(sum(seconds for name, seconds in times.runs.items() if name in folders), 1),
        "wall_seconds": times.wall,
        "commits": _different(one["commit"] for one in read),
        "versions": versions,
        "platforms": _different(f"{one['platform']}, {one['cpus']} CPUs" for one in read),
        "devices": _different(one["device"] for one in read),
        "started": min((one["started"] for one in read), default=None),
    }


def _different(values: Iterator[Any]) -> list[str]:
    return sorted({str(value) for value in values})
