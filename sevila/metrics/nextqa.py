"""NExT-QA's accuracies by group, under the names that its own script prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sevila.errors import UserError
from sevila.metrics.choice import Choice, percent, tally

GROUPS = {"C": ("CW", "CH"), "T": ("TN", "TC", "TP"), "D": ("DO", "DL", "DC")}  # causal, temporal, descriptive
NAMES = {
    "Why": ("CW",),
    "How": ("CH",),
    "Bef&Aft": ("TN", "TP"),
    "When": ("TC",),
    "Cnt": ("DC",),
    "Loc": ("DL",),
    "Other": ("DO",),
    "Acc_C": GROUPS["C"],
    "Acc_T": GROUPS["T"],
    "Acc_D": GROUPS["D"],
}


def nextqa(choices: Iterable[Choice]) -> dict[str, Any]:
    """Accuracies in percent as NExT-QA's eval_mc.py prints them, and as SeViLA's own code does.

    metrics, Acc     eval_mc.py: two decimals; in a group every question counts once. The script's "Bef&Aft"
                     joins the types TN and TP; a group without a question is left out (the script fails on it).
    types            SeViLA's task (lavis/tasks/vqa.py): every single type, unrounded
    agg_metrics      the same: share of right answers of all questions, 0..1
    total            questions counted

    UserError for a type that NExT-QA does not have, and where no question has a known answer.
    """
    by_type = tally(choices)
    known = {qtype for group in GROUPS.values() for qtype in group}
    for qtype in by_type:
        if qtype not in known:
            raise UserError(f"question type {qtype!r}: NExT-QA has {', '.join(sorted(known))}")
    right, total = (sum(column) for column in zip(*by_type.values(), strict=True))
    metrics = {}
    for name, qtypes in NAMES.items():
        counts = [by_type[qtype] for qtype in qtypes if qtype in by_type]
        if counts:
            metrics[name] = percent(sum(r for r, _ in counts), sum(n for _, n in counts))
    return {
        "metrics": metrics,
        "Acc": percent(right, total),
        "types": {qtype: r / n * 100 for qtype, (r, n) in sorted(by_type.items())},
        "agg_metrics": right / total,
        "total": total,
    }
