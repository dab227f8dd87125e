"""The paper's claims as differences between rows, and the rule of the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sevila.metrics.bootstrap import Estimate
from study.rows import Numbers
from study.values import Values

RULE = (
    "Rule of the verdict: an effect is the difference of two rows' means over the same test questions, in points. It "
    "is 'reproduced' where its 95 % interval lies above the bound (0, unless another is named), 'not reproduced' where "
    "it lies below, else 'undecided'. The interval is a paired bootstrap of 10,000 resamples by percentiles: in each "
    "world by itself, videos are drawn with all their questions, and trainings (seeds) as wholes; worlds are not "
    "drawn. Where a row is compared with the best of several, it is the best in each resample. A target, where one was "
    "set beforehand, is a size that the effect should reach; it does not change the verdict. Claims are not corrected "
    "for their number."
)


@dataclass(frozen=True)
class Claim:
    """`better` is higher than the best of `others`.

    bound    the effect above which the claim holds
    target   the effect that was hoped for, if any
    extra    not one of the paper's claims of the list, but of the same kind
    """

    name: str
    measure: str
    better: str
    others: tuple[str, ...]
    text: str
    bound: float = 0.0
    target: float | None = None
    extra: bool = False


@dataclass(frozen=True)
class Finding:
    """A claim as measured: the effect, also in each world by itself."""

    claim: Claim
    effect: Estimate
    by_world: dict[int, Estimate]
    n: int
    seeds: int

    @property
    def verdict(self) -> str:
        return verdict(self.effect, self.claim.bound)

    def to_json(self) -> dict[str, Any]:
        claim, effect = self.claim, self.effect
        return {
            "claim": claim.name,
            "measure": claim.measure,
            "verdict": self.verdict,
            "effect": round(effect.mean, 4),
            "low": round(effect.low, 4),
            "high": round(effect.high, 4),
            "n": self.n,
            "seeds": self.seeds,
            "worlds": list(self.by_world),
            "bound": claim.bound,
            "target": claim.target,
            "target_reached": None if claim.target is None else effect.mean >= claim.target,
            "extra": claim.extra,
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


def claims(values: Values, default: Numbers) -> list[Claim]:
    """All claims, those of the list first; of which rows they speak follows from what there is."""
    main = [row.key for row in values.rows if row.group == "main"]
    curve = [row for row in values.rows if (row.group, row.selection, row.answerer) == ("k", "uniform", "zero-shot")]
    more = tuple(row.key for row in curve if row.numbers.k > default.k)
    return [*_listed(main, more), *_extras(values, main)]


def _listed(main: Sequence[str], more_uniform: tuple[str, ...]) -> Iterator[Claim]:
    both = ("accuracy", "recall")
    for measure in both:
        target = 20.0 if measure == "accuracy" else None
        text = "the zero-shot Localizer's frames beat uniform frames"
        yield Claim("localizer_beats_uniform", measure, "zero_shot", ("uniform",), text, target=target)
    for measure in both:
        yield Claim("pretraining_helps", measure, "pt", ("zero_shot",), "PT beats the zero-shot Localizer")
    for measure in both:
        yield Claim("refinement_helps", measure, "pt_sr", ("pt",), "PT + SR beats PT")
    text = "fine-tuned on the frames of PT + SR, the Answerer is better on these frames than zero-shot"
    yield Claim("finetuning_helps", "accuracy", "pt_sr_ft", ("pt_sr",), text)
    text = "a few keyframes of PT + SR beat more uniform frames, whichever number of them is best"
    yield Claim("keyframes_beat_more_uniform_frames", "accuracy", "pt_sr", more_uniform, text)
    others = tuple(key for key in main if not key.endswith("_ft") and key != "oracle")
    for measure in both:
        text = "the oracle's frames beat those of whoever is best without knowing the windows"
        yield Claim("oracle_is_upper_bound", measure, "oracle", others, text)


def _extras(values: Values, main: Sequence[str]) -> Iterator[Claim]:
    def extra(name: str, measure: str, better: str, others: tuple[str, ...], text: str, **more: float) -> Claim:
        return Claim(name, measure, better, others, text, extra=True, **more)

    for measure, target in (("accuracy", None), ("recall", 10.0)):
        text = "there is a gap to close: training on true windows beats the zero-shot Localizer"
        more = {} if target is None else {"target": target}
        yield extra("true_windows_beat_zero_shot", measure, "true_windows", ("zero_shot",), text, **more)
    for measure in ("accuracy", "recall"):
        text = "SR beats the zero-shot Localizer"
        yield extra("refinement_helps_without_pretraining", measure, "sr", ("zero_shot",), text)
    for measure in ("accuracy", "recall"):
        text = "SR on labels of one order of the options, as published, beats PT"
        yield extra("refinement_on_published_labels_helps", measure, "pt_sr_published", ("pt",), text)
    for measure in ("accuracy", "recall"):
        text = "a second round of refinement, labelled by the fine-tuned Answerer, beats the first"
        yield extra("second_refinement_helps", measure, "pt_sr_x2", ("pt_sr",), text)
    pairs = {
        "localizer_beats_uniform": ("zero_shot_ft", ("uniform_ft",)),
        "pretraining_helps": ("pt_ft", ("zero_shot_ft",)),
        "refinement_helps": ("pt_sr_ft", ("pt_ft",)),
        "oracle_is_upper_bound": ("oracle_ft", tuple(k for k in main if k.endswith("_ft") and k != "oracle_ft")),
    }
    for name, (better, others) in pairs.items():
        yield extra(f"{name}_finetuned", "accuracy", better, others, "the same with an Answerer fine-tuned on each row")
    text = "an Answerer trained on a Localizer's frames reads such frames better than one trained on random frames"
    yield extra("localizer_at_training_helps", "accuracy", "localizer_localizer", ("random_localizer",), text)
    needed = most_needed(values)
    for end, words in (("", "zero-shot"), ("_ft", "fine-tuned")):
        text = f"{needed} keyframes, as many as an event needs at most, are no worse than one ({words} Answerer)"
        name = f"more_keyframes_do_not_hurt{'_finetuned' if end else ''}"
        yield extra(name, "accuracy", f"k{needed}_pt_sr{end}", (f"k1_pt_sr{end}",), text, bound=-2.0)


def most_needed(values: Values) -> int:
    """The number of windows that a question needs at most: of frames, one for each."""
    return max(len(question.windows or ()) for questions in values.questions.values() for question in questions)


def findings(values: Values, default: Numbers) -> tuple[list[Finding], list[Claim]]:
    """What can be said of the claims, and the claims whose rows are not all there."""
    found, unmeasured = [], []
    for claim in claims(values, default):
        if not claim.others or not all(values.has(key) for key in (claim.better, *claim.others)):
            unmeasured.append(claim)
            continue
        effect = values.effect(claim.better, claim.others, claim.measure)
        by_world = values.world_effects(claim.better, claim.others, claim.measure)
        n = values.counted(claim.better, claim.measure)
        found.append(Finding(claim, effect, by_world, n, len(values.seeds)))
    return found, unmeasured
