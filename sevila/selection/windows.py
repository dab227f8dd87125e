"""Keyframes inside the spans that a moment-retrieval model predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from sevila.data.records import Window
from sevila.errors import UserError
from sevila.files import numbered_jsonl
from sevila.metrics.keyframes import true_positions
from sevila.selection.base import Candidates, Selector, fill_evenly, spread


@dataclass(frozen=True)
class Windows(Selector):
    """Frames inside the best spans first, as with Moment-DETR in table 6 of SeViLA (Yu et al. 2023).

    `file` is a jsonl in QVHighlights' submission form, {"qid": ..., "pred_relevant_windows": [[start, end, score],
    ...]} a line, in seconds from the video's beginning. Spans are gone through by score, best first; a span that
    holds more new frames than are still wanted gives evenly spread ones. When all spans are used up, uniform frames
    fill up to k. A malformed file, or one without a question, is a UserError that names the place.
    """

    file: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _read(self.file)

    def _choose(self, candidates: Candidates) -> list[int]:
        spans = _read(self.file).get(candidates.qid)
        if spans is None:
            raise UserError(f"{self.file}: has no windows for question {candidates.qid}")
        chosen: list[int] = []
        for span in spans:
            inside = [i for i in true_positions(candidates.times, [span]) if i not in chosen]
            wanted = min(len(inside), self.k - len(chosen))
            chosen += [inside[i] for i in spread(len(inside), wanted)] if wanted else []
        return fill_evenly(chosen, len(candidates), self.k)


@lru_cache(maxsize=4)
def _read(file: str) -> dict[str, tuple[Window, ...]]:
    """qid -> spans, the best first; of equal scores in the file's order."""
    table = {}
    for line, row in numbered_jsonl(file):
        try:
            spans = [(float(start), float(end), float(score)) for start, end, score in row["pred_relevant_windows"]]
            qid = str(row["qid"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise UserError(
                f'{file}, line {line}: expected "qid" and "pred_relevant_windows": [[START, END, SCORE], ...]'
            ) from None
        if not all(math.isfinite(number) for span in spans for number in span):
            raise UserError(f"{file}, line {line}, field pred_relevant_windows: holds a number that is not finite")
        if qid in table:
            raise UserError(f"{file}, line {line}: question {qid} stands there twice")
        table[qid] = tuple((start, end) for start, end, _ in sorted(spans, key=lambda span: -span[2]))
    return table
