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
    frames; anything else is a UserError that names the file and the question. A short clip has a frame sampled more
    than once: such a frame may be a keyframe as often.
    """

    file: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _read(self.file)

    def _choose(self, candidates: Candidates) -> list[int]:
        chosen = _read(self.file).get(candidates.qid)
        if chosen is None:
            raise UserError(f"{self.file}: has no keyframes for question {candidates.qid}")
        where = f"{self.file}, question {candidates.qid}"
        if len(chosen) != self.k:
            raise UserError(f"{where}: {len(chosen)} keyframes, but selector.k={self.k}")
        places: dict[int, list[int]] = {}
        for position, index in enumerate(candidates.indices):
            places.setdefault(index, []).append(position)
        taken = []
        for index in chosen:
            if not places.get(index):
                often = "not among the sampled ones" if index not in places else "sampled less often than it is named"
                raise UserError(f"{where}: frame {index} is {often}; sample as the run did that chose them")
            taken.append(places[index].pop(0))
        return taken


@lru_cache(maxsize=4)
def _read(file: str) -> dict[str, tuple[int, ...]]:
    """qid -> frame numbers."""
    table = {}
    for line, row in numbered_jsonl(file):
        try:
            table[str(row["qid"])] = tuple(int(frame["index"]) for frame in row["keyframes"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f'{file}, line {line}: expected "qid" and "keyframes": [{{"index": NUMBER}}]') from None
    return table
