"""Rules that read a file: keyframes of another run, spans of a moment-retrieval model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from sevila.data.records import Window
from sevila.errors import UserError
from sevila.files import numbered_jsonl
from sevila.metrics.keyframes import true_positions
from sevila.selection.rules import Candidates, Selector, fill_evenly, spread


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
        _keyframes(self.file)

    def _choose(self, candidates: Candidates) -> list[int]:
        chosen = _keyframes(self.file).get(candidates.qid)
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
def _keyframes(file: str) -> dict[str, tuple[int, ...]]:
    """qid -> frame numbers."""
    table = {}
    for line, row in numbered_jsonl(file):
        try:
            table[str(row["qid"])] = tuple(int(frame["index"]) for frame in row["keyframes"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f'{file}, line {line}: expected "qid" and "keyframes": [{{"index": NUMBER}}]') from None
    return table


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
        _spans(self.file)

    def _choose(self, candidates: Candidates) -> list[int]:
        spans = _spans(self.file).get(candidates.qid)
        if spans is None:
            raise UserError(f"{self.file}: has no windows for question {candidates.qid}")
        chosen: list[int] = []
        for span in spans:
            inside = [i for i in true_positions(candidates.times, [span]) if i not in chosen]
            wanted = min(len(inside), self.k - len(chosen))
            chosen += [inside[i] for i in spread(len(inside), wanted)] if wanted else []
        return fill_evenly(chosen, len(candidates), self.k)


@lru_cache(maxsize=4)
def _spans(file: str) -> dict[str, tuple[Window, ...]]:
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
