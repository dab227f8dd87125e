"""The findings in words: what was asked for beforehand, a table of the claims, a sentence for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from study.claims import CHECK, PARTS, RULE, Claim, Finding
from study.tables import markdown
from study.values import MEASURES, Values

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


def sentence(finding: Finding) -> str:
    """A claim in words."""
    claim, effect = finding.claim, finding.effect
    others = claim.others[0] if len(claim.others) == 1 else f"the best of {', '.join(claim.others)}"
    worlds = "; ".join(f"world {world}: {estimate.mean:+.2f}" for world, estimate in finding.by_world.items())
    target = "" if claim.target is None else f" The target of {claim.target:g} points is {_reached(finding)}."
    differs = finding.holm_verdict not in ("", finding.verdict)
    holm = f" ({finding.holm_verdict} when corrected for the number of claims)" if differs else ""
    return (
        f"{claim.name} ({MEASURES[claim.measure]}): {finding.verdict}{holm}. Claim: {claim.text}. {claim.better} "
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


def claims_markdown(values: Values, found: Sequence[Finding], missing: Sequence[Claim], note: str = "") -> str:
    """The rule, what was asked for, and the findings, as a table and in words; `note` is a paragraph above them."""
    lines = [f"# {TITLE}", "", *([note, ""] if note else []), RULE, "", targets(values), ""]
    for title, part in parts(found):
        lines += [f"## {title}", "", *markdown(CLAIM_HEADINGS, [claim_cells(finding) for finding in part]), ""]
        lines += [f"- {sentence(finding)}" for finding in part] + [""]
    return "\n".join([*lines, *filter(None, [unmeasured_text(missing)])]).rstrip() + "\n"
