"""The rows of the study as tables, for people (markdown) and for programs (json); the findings in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reproduction.cells import grid
from study.claims import CHECK, PARTS, RULE, Claim, Finding
from study.outcomes import LABELS, MEASURES, Values
from study.rows import GROUPS, REFINEMENTS, Row

HEADINGS = ("row", "", "Answerer", "n", "k", "accuracy", "keyframe recall")


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
                for world in values.worlds
            },
        }
    return out


def row_name(row: Row) -> str:
    """A row in words, for who does not know the keys."""
    return f"{row.title} ({row.answerer}, n = {row.numbers.n}, k = {row.numbers.k})"


def cells(values: Values, row: Row) -> tuple[str | int, ...]:
    estimates = [str(values.estimate(row.key, measure)) for measure in MEASURES]
    return row.key, row.title, row.answerer, row.numbers.n, row.numbers.k, *estimates


def type_cells(values: Values, row: Row) -> tuple[str | float, ...]:
    return row.key, *(mean for measure in MEASURES for mean in values.type_means(row.key, measure).values())


def type_headings(values: Values, row: Row) -> tuple[str, ...]:
    means = [(name, values.type_means(row.key, measure)) for measure, name in MEASURES.items()]
    return "row", *(f"{name}, {qtype}" for name, types in means for qtype in types)


def rows_markdown(values: Values, group: str, rows: Sequence[Row]) -> str:
    """A table of rows, percent with intervals, then the same rows by question type."""
    head = [f"# {GROUPS[group]}", "", caption(values), ""]
    body = grid(HEADINGS, [cells(values, row) for row in rows])
    by_type = grid(type_headings(values, rows[0]), [type_cells(values, row) for row in rows])
    return "\n".join([*head, *body, "", "By question type:", "", *by_type]) + "\n"


def caption(values: Values) -> str:
    worlds = ", ".join(map(str, values.worlds))
    return (
        f"Percent with 95 % intervals; test questions: {values.count()}, worlds: {worlds}, trainings of a row in a "
        f"world: {len(values.seeds)}, where anything is trained. Recall: true frames chosen of those that k frames "
        "could choose, over the questions that have a true frame among the n sampled ones."
    )


# -- the findings in words: what was asked for beforehand, a table of the claims, a sentence for each ---

QUESTIONS, SEEDS = 1000, 5  # that a study must have
TITLE = "SeViLA's claims on the embedded world"
CLAIM_HEADINGS = (
    "claim",
    "measure",
    "verdict",
    "Holm",
    "effect",
    "p",
    "p, Holm",
    "bound",
    "target",
    "questions",
    "seeds",
)


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


def claim_cells(finding: Finding) -> tuple[str | int | float, ...]:
    claim = finding.claim
    target = "" if claim.target is None else f"{claim.target:g}: {_reached(finding)}"
    effect = f"{finding.effect.mean:+.2f} [{finding.effect.low:+.2f}, {finding.effect.high:+.2f}]"
    name, bound = MEASURES[claim.measure], f"{claim.bound:g}"
    p_values = ("", "") if claim.part == CHECK else (f"{finding.p:.2g}", f"{finding.p_holm:.2g}")
    return (
        claim.name,
        name,
        finding.verdict,
        finding.holm_verdict,
        effect,
        *p_values,
        bound,
        target,
        finding.n,
        finding.seeds,
    )


def _reached(finding: Finding) -> str:
    return "reached" if finding.effect.mean >= (finding.claim.target or 0.0) else "missed"


def claim_name(claim: Claim) -> str:
    return claim.name.replace("_", " ")


def sentence(finding: Finding, names: Mapping[str, str] | None = None) -> str:
    """A claim in words; `names` are those of rows by their keys, without them the keys stand."""
    claim, effect = finding.claim, finding.effect
    better, *worse = ((names or {}).get(key, key) for key in (claim.better, *claim.others))
    others = worse[0] if len(worse) == 1 else f"the best of {', '.join(worse)}"
    name = claim_name(claim) if names else claim.name
    worlds = "; ".join(f"world {world}: {estimate.mean:+.2f}" for world, estimate in finding.by_world.items())
    target = "" if claim.target is None else f" The target of {claim.target:g} points is {_reached(finding)}."
    differs = finding.holm_verdict not in ("", finding.verdict)
    holm = f" ({finding.holm_verdict} when corrected for the number of claims)" if differs else ""
    return (
        f"{name} ({MEASURES[claim.measure]}): {finding.verdict}{holm}. Claim: {claim.text}. {better} "
        f"against {others}: {effect.mean:+.2f} points, 95 % interval {effect.low:+.2f} to {effect.high:+.2f} "
        f"({worlds}).{target}"
    )


def parts(found: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """The parts of the claims that have any: headings, and findings."""
    for part, title in PARTS.items():
        own = [finding for finding in found if finding.claim.part == part]
        if own:
            yield title, own


def unmeasured_text(missing: Sequence[Claim]) -> str:
    """Which claims nothing can be said of; empty where there are none."""
    names = dict.fromkeys(f"{claim.name} ({MEASURES[claim.measure]})" for claim in missing)
    return f"Not measured, because rows are missing: {', '.join(names)}." if names else ""


def claims_markdown(values: Values, found: Sequence[Finding], missing: Sequence[Claim]) -> str:
    """The rule, what was asked for, and the findings, as a table and in words."""
    lines = [f"# {TITLE}", "", RULE, "", targets(values), ""]
    for title, part in parts(found):
        lines += [f"## {title}", "", *grid(CLAIM_HEADINGS, [claim_cells(finding) for finding in part]), ""]
        lines += [f"- {sentence(finding)}" for finding in part] + [""]
    return "\n".join([*lines, *filter(None, [unmeasured_text(missing)])]).rstrip() + "\n"


# -- the pseudo-labels of every refinement, and what the test questions gained by it ---

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


def refinements(values: Values) -> list[dict[str, Any]]:
    """Every refinement: the precision and recall of its labels, and what the test questions gained by it."""
    out = []
    for labels in values.outcomes.labels:
        selection, world, seed = labels["selection"], labels["world"], labels["seed"]
        before, name = REFINEMENTS[selection]
        if not values.has(before):
            continue
        row: dict[str, Any] = {"refinement": name, "world": world, "seed": seed}
        row |= {key: labels[key] for key in LABELS}
        for measure in MEASURES:
            means = [values.seed_means(key, measure, world) for key in (before, selection)]
            start, end = (mean[values.seeds.index(seed)] if len(mean) > 1 else mean[0] for mean in means)
            row[f"{measure}_gain"] = round(end - start, 4)
        out.append(row)
    return out


def refinement_cells(row: Mapping[str, Any]) -> tuple[str | int | float, ...]:
    keys = ("refinement", "world", "seed", "precision", "recall", "yes", "recall_gain", "accuracy_gain")
    cells = [row[key] for key in keys]
    return tuple(str(cell) if key in ("world", "seed") else cell for key, cell in zip(keys, cells, strict=True))


def refinements_markdown(found: Sequence[Mapping[str, Any]]) -> str:
    head = ["# Pseudo-labels and what refinement gained", ""]
    head += ["Of the labels of the training questions, in percent; gains on the test questions, in points.", ""]
    return "\n".join(head + grid(REFINEMENT_HEADINGS, [refinement_cells(row) for row in found])) + "\n"
