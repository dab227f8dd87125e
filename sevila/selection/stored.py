"""Keyframes that were chosen before, by another run or by another program."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sevila.errors import UserError
from sevila.files import numbered_jsonl
from sevila.selection.base import Candidates, Selector


@dataclass(frozen=True)
class Stored(Selector):
    """The keyframes in a jsonl file, such as a run's predictions.jsonl: lines with `qid` and `keyframes`.

    A keyframe is {"index": FRAME NUMBER, ...}. Every question must have exactly k of them, all among the sampled
    frames; anything else is a UserError that names the file and the question.
    """

    file: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _read(self.file)

    def _choose(self, candidates: Candidates) -> list[int]:
        chosen = _read(self.file).get(candidates.qid)
        if chosen is None:
            raise UserError(f"{self.file}: has no keyframes for question {candidates.qid}")
        place = {index: position for position, index in enumerate(candidates.indices)}
        strange = [index for index in chosen if index not in place]
        if strange:
            raise UserError(
                f"{self.file}, question {candidates.qid}: frame {strange[0]} is not among the sampled ones; "
                "sample as the run did that chose them"
            )
        if len(chosen) != self.k:
            raise UserError(f"{self.file}, question {candidates.qid}: {len(chosen)} keyframes, but selector.k={self.k}")
        return [place[index] for index in chosen]


@lru_cache(maxsize=4)
def _read(file: str) -> dict[str, tuple[int, ...]]:
    """qid -> frame numbers."""
    table = {}
    for line, row in numbered_jsonl(file):
        try:
            table[str(row["qid"])] = tuple({int(frame["index"]): None for frame in row["keyframes"]})
        except (KeyError, TypeError, ValueError):
            raise UserError(f'{file}, line {line}: expected "qid" and "keyframes": [{{"index": NUMBER}}]') from None
    return table
