"""Accuracy of multiple-choice answers, over all questions and by question type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sevila.errors import UserError


@dataclass(frozen=True)
class Choice:
    """What was answered to one question.

    answer      index of the right option, or None where it is hidden (such a question is not counted)
    prediction  index of the chosen option
    qtype       the question's type, "" where the benchmark has none
    """

    answer: int | None
    prediction: int
    qtype: str = ""


def percent(right: float, total: float) -> float:
    """`right` of `total` in percent with two decimals, as the papers print it."""
    return round(100.0 * right / total, 2)


def tally(choices: Iterable[Choice]) -> dict[str, tuple[int, int]]:
    """Right answers and questions of each type, types in the order they come; hidden answers are left out.

    UserError where no question has a known answer: every score begins here.
    """
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for choice in choices:
        if choice.answer is not None:
            counts[choice.qtype][0] += choice.prediction == choice.answer
            counts[choice.qtype][1] += 1
    if not counts:
        raise UserError("no question has a known answer: nothing to score; use a split with answers")
    return {qtype: (right, total) for qtype, (right, total) in counts.items()}


def accuracy(choices: Iterable[Choice]) -> float:
    """Share of right answers in percent, every question counting once: the metric of How2QA, TVQA and VLEP.

    As VALUE's scoring_program/evaluate_{how2qa,tvqa,vlep}.py print it. UserError if no question can count.
    """
    right, total = (sum(column) for column in zip(*tally(choices).values(), strict=True))
    return percent(right, total)


def accuracy_by_type(choices: Iterable[Choice], groups: Mapping[str, Sequence[str]] | None = None) -> dict[str, float]:
    """Accuracy of each question type in percent, types in alphabetical order, then of each named group.

    `groups` joins types, every question counting once: NExT-QA's {"C": ("CW", "CH"), "T": ("TN", "TC", "TP"),
    "D": ("DO", "DL", "DC")}. Questions without a type, and groups without a question, have no entry.
    """
    by_type: dict[str, list[Choice]] = defaultdict(list)
    for choice in choices:
        if choice.answer is not None and choice.qtype:
            by_type[choice.qtype].append(choice)
    result = {qtype: accuracy(by_type[qtype]) for qtype in sorted(by_type)}
    for name, qtypes in (groups or {}).items():
        members = [choice for qtype in qtypes for choice in by_type.get(qtype, [])]
        if members:
            result[name] = accuracy(members)
    return result


def mean_over_types(choices: Iterable[Choice]) -> float:
    """Mean of the types' accuracies in percent, every *type* counting once: STAR's "Avg"."""
    by_type = tally(choices)
    return percent(sum(right / total for right, total in by_type.values()), len(by_type))


def multiple_choice(choices: Iterable[Choice], groups: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """The keys of metrics.json: `accuracy`, `accuracy_by_type` (percent) and `n`, the questions counted.

    Raises UserError when no question has a known answer.
    """
    choices = list(choices)
    return {
        "accuracy": accuracy(choices),
        "accuracy_by_type": accuracy_by_type(choices, groups),
        "n": sum(c.answer is not None for c in choices),
    }
