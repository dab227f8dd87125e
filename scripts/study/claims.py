"""The paper's claims as differences between rows, and the rule of the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from study.few_seeds import holm
from study.intervals import Estimate
from study.outcomes import Values

ALPHA = 0.05
PAPER, FURTHER, CHECK = "paper", "further", "check"
PARTS = {PAPER: "The paper's claims", FURTHER: "Further comparisons", CHECK: "Checks: true by construction"}
RULE = (
    "Rule of the verdict: an effect is the difference of two rows' means over the same test questions, in points. It "
    "is 'reproduced' where its 95 % interval lies above the bound (0, unless another is named), 'not reproduced' "
    "where it lies below, else 'undecided'. The interval is the effect -+ t * sqrt(Vv + s^2 / S): Vv is the variance "
    "of the mean over seeds as the videos vary (cluster-robust, the questions of a video together), s^2 the variance "
    "of the paired effects of the S trainings (seeds; no such part where nothing is trained), t Student's 97.5 % "
    "point at Welch and Satterthwaite's degrees of freedom. Worlds are averaged and not taken as drawn. Against the "
    "best of several rows the lower end is the lowest of all of them, effect and upper end are those against the "
    "best. Simulated (results/synthetic/coverage.json), with five trainings such intervals hold the true effect in 93 "
    "to 96 % of the cases and with ten in 95 to 97 %, those of a bootstrap by percentiles in 79 to 95 % and 84 to 97 "
    "%. 'Holm' is the verdict once more, where p-values of the same t are corrected by Holm's method for the number "
    "of the claims: for the paper's claims, and apart from them for the further comparisons. A target, where one was "
    "set beforehand, is a size that the effect should reach; it does not change the verdict."
)


@dataclass(frozen=True)
class Claim:
    """`better` is higher than the best of `others`.

    bound    the effect above which the claim holds
    target   the effect that was hoped for, if any
    part     PAPER, one of the paper's claims of the list; FURTHER, of the same kind; CHECK, true by construction
    """

    name: str
    measure: str
    better: str
    others: tuple[str, ...]
    text: str
    bound: float = 0.0
    target: float | None = None
    part: str = PAPER


@dataclass(frozen=True)
class Finding:
    """A claim as measured: the effect, also in each world by itself.

    p        two-sided, of the effect being the bound
    p_holm   corrected for the number of claims of the same part
    """

    claim: Claim
    effect: Estimate
    p: float
    by_world: dict[int, Estimate]
    n: int
    seeds: int
    p_holm: float = 1.0

    @property
    def verdict(self) -> str:
        if self.claim.part == CHECK:
            return "holds" if self.effect.mean >= self.claim.bound else "fails"
        return verdict(self.effect, self.claim.bound)

    @property
    def holm_verdict(self) -> str:
        """The verdict where the claims are corrected for their number; empty of a check."""
        if self.claim.part == CHECK:
            return ""
        return self.verdict if self.p_holm < ALPHA else "undecided"

    def to_json(self) -> dict[str, Any]:
        claim, effect = self.claim, self.effect
        tested = claim.part != CHECK
        return {
            "claim": claim.name,
            "measure": claim.measure,
            "part": claim.part,
            "verdict": self.verdict,
            "effect": round(effect.mean, 4),
            "low": round(effect.low, 4),
            "high": round(effect.high, 4),
            "p": float(f"{self.p:.3g}") if tested else None,
            "p_holm": float(f"{self.p_holm:.3g}") if tested else None,
            "verdict_holm": self.holm_verdict if tested else None,
            "n": self.n,
            "seeds": self.seeds,
            "worlds": list(self.by_world),
            "bound": claim.bound,
            "target": claim.target,
            "target_reached": None if claim.target is None else effect.mean >= claim.target,
            "better": claim.better,
            "others": list(claim.others),
            "by_world": {str(world): estimate.to_json() for world, estimate in self.by_world.items()},
            "text": claim.text,
        }


def verdict(effect: Estimate, bound: float = 0.0) -> str:
    """`reproduced`, `not reproduced` or `undecided`, by RULE."""
    if effect.low > bound:
        return "reproduced"
    return "not reproduced" if effect.high < bound else "undecided"


def claims(values: Values) -> list[Claim]:
    """All claims, those of the list first; of which rows they speak follows from what there is."""
    main = [row.key for row in values.rows if row.group == "main"]
    curve = [row for row in values.rows if (row.group, row.selection, row.answerer) == ("k", "uniform", "zero-shot")]
    more = tuple(row.key for row in curve if row.numbers.k > values.default.k)
    return [*_listed(main, more), *_further(values, main)]


def _listed(main: Sequence[str], more_uniform: tuple[str, ...]) -> Iterator[Claim]:
    both = ("accuracy", "recall")
    for measure in both:
        target = 20.0 if measure == "accuracy" else None
        text = "the zero-shot Localizer's frames beat uniform frames"
        yield Claim("localizer_beats_uniform", measure, "zero_shot", ("uniform",), text, target=target)
    for measure in both:
        yield Claim("pretraining_helps", measure, "pt", ("zero_shot",), "PT beats the zero-shot Localizer")
    for measure in both:
        text = "PT + SR beats PT, on labels asked for once, as published"
        yield Claim("refinement_helps_published_labels", measure, "pt_sr_published", ("pt",), text)
    for measure in both:
        text = "PT + SR beats PT, on labels that stand in five orders of the options, which is ours"
        yield Claim("refinement_helps_five_orders", measure, "pt_sr", ("pt",), text)
    text = "fine-tuned on the frames of PT + SR, the Answerer is better on these frames than zero-shot"
    yield Claim("finetuning_helps", "accuracy", "pt_sr_ft", ("pt_sr",), text)
    text = (
        "a few keyframes of PT + SR beat more uniform frames, whichever number of them is best (the tiny T5 was taught "
        "on at most 8 frames at once)"
    )
    yield Claim("keyframes_beat_more_uniform_frames", "accuracy", "pt_sr", more_uniform, text)
    others = tuple(key for key in main if not key.endswith("_ft") and key != "oracle")
    text = "the oracle's frames beat those of whoever is best without knowing the windows"
    yield Claim("oracle_is_upper_bound", "accuracy", "oracle", others, text)
    text = "the oracle takes true frames wherever there are any: its recall is the highest there can be"
    yield Claim("oracle_recall_is_highest", "recall", "oracle", others, text, part=CHECK)


def _further(values: Values, main: Sequence[str]) -> Iterator[Claim]:
    def further(name: str, measure: str, better: str, others: tuple[str, ...], text: str, **more: Any) -> Claim:
        return Claim(name, measure, better, others, text, part=FURTHER, **more)

    for measure, target in (("accuracy", None), ("recall", 10.0)):
        text = "there is a gap to close: training on true windows beats the zero-shot Localizer"
        yield further("true_windows_beat_zero_shot", measure, "true_windows", ("zero_shot",), text, target=target)
    for measure in ("accuracy", "recall"):
        text = "SR beats the zero-shot Localizer, on labels that stand in five orders of the options"
        yield further("refinement_helps_five_orders_without_pretraining", measure, "sr", ("zero_shot",), text)
    for measure in ("accuracy", "recall"):
        text = "a second round of refinement (five orders), labelled by the fine-tuned Answerer, beats the first"
        yield further("second_refinement_helps", measure, "pt_sr_x2", ("pt_sr",), text)
    pairs = {
        "localizer_beats_uniform": ("zero_shot_ft", ("uniform_ft",)),
        "pretraining_helps": ("pt_ft", ("zero_shot_ft",)),
        "refinement_helps_five_orders": ("pt_sr_ft", ("pt_ft",)),
        "oracle_is_upper_bound": ("oracle_ft", tuple(k for k in main if k.endswith("_ft") and k != "oracle_ft")),
    }
    for name, (better, others) in pairs.items():
        text = "the same with an Answerer fine-tuned on each row"
        yield further(f"{name}_finetuned", "accuracy", better, others, text)
    text = "an Answerer trained on a Localizer's frames reads such frames better than one trained on random frames"
    yield further("localizer_at_training_helps", "accuracy", "localizer_localizer", ("random_localizer",), text)
    needed = values.most_windows()
    for end, words in (("", "zero-shot"), ("_ft", "fine-tuned")):
        text = f"{needed} keyframes, as many as an event needs at most, are no worse than one ({words} Answerer)"
        name = f"more_keyframes_do_not_hurt{'_finetuned' if end else ''}"
        yield further(name, "accuracy", f"k{needed}_pt_sr{end}", (f"k1_pt_sr{end}",), text, bound=-2.0)


def findings(values: Values) -> tuple[list[Finding], list[Claim]]:
    """What can be said of the claims, and the claims whose rows are not all there."""
    found, unmeasured = [], []
    for claim in claims(values):
        if not claim.others or not all(values.has(key) for key in (claim.better, *claim.others)):
            unmeasured.append(claim)
            continue
        lead = values.effect(claim.better, claim.others, claim.measure)
        by_world = values.world_effects(claim.better, claim.others, claim.measure)
        n = values.counted(claim.better, claim.measure)
        found.append(Finding(claim, lead.estimate(), lead.p_value(claim.bound), by_world, n, len(values.seeds)))
    return [finding for part in PARTS for finding in _corrected(found, part)], unmeasured


def _corrected(found: Sequence[Finding], part: str) -> list[Finding]:
    """The findings of a part, with p-values corrected for their number."""
    own = [finding for finding in found if finding.claim.part == part]
    adjusted = holm([finding.p for finding in own])
    return [replace(finding, p_holm=p) for finding, p in zip(own, adjusted, strict=True)]
