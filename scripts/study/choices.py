"""Keyframes by the scores that an evaluation left: another rule or number of keyframes, without scoring frames again.

Scoring is nearly all that an evaluation costs. predictions.jsonl holds every frame's score to six digits, which is as
good as in full: a row may depend on them only where two frames differ in the seventh.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reproduction.runs import Run
from sevila.files import read_jsonl, write_jsonl
from sevila.selection import Candidates
from sevila.selection.registry import build

CHOOSE = "choose"  # in the place of an entry point's name


@dataclass(frozen=True)
class Chosen(Run):
    """A file of keyframes for `selector=stored`, made by this module: its options are those of `choose`."""

    @classmethod
    def of(cls, scored: Run, rule: str, k: int, name: str) -> Chosen:
        """The k frames that a rule chooses by the scores of an evaluation."""
        options = (("predictions", scored), ("rule", rule), ("k", str(k)))
        return cls(CHOOSE, scored.exp, scored.data, options, f"{name}.jsonl")

    @property
    def trained(self) -> bool:
        return any(run.trained for run in self.needs)


def choose(run_dir: Path, rule: str, k: int, out: Path) -> None:
    """Write the keyframes that the rule takes, question by question, by the scores in a run's predictions.jsonl."""
    selector = build(rule, {"k": k})
    rows = []
    for row in read_jsonl(run_dir / "predictions.jsonl"):
        frames = row["frames"]
        times, indices, scores = (tuple(frame[key] for frame in frames) for key in ("time", "index", "score"))
        places = selector.select(Candidates(row["qid"], times, indices, list(scores), None))
        rows.append({"qid": row["qid"], "keyframes": [frames[place] for place in places]})
    write_jsonl(out, rows)
