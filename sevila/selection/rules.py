"""Rules: from the scores of T frames to the positions of k keyframes.

`Candidates` are the frames of one question, a `Selector` chooses among them. Published rules name their papers;
SeViLA's own is `LocalizerTopK`.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import numpy as np

from sevila.data.records import Window
from sevila.errors import UserError
from sevila.files import numbered_jsonl
from sevila.metrics.keyframes import true_positions


@dataclass(frozen=True)
class Candidates:
    """The n sampled frames of one question, in time order (padding left out).

    qid       the question's id
    times     n times in seconds
    indices   n frame numbers in the video
    scores    n relevances, whoever gave them (the Localizer: "yes" logits); higher is better; None where nobody did
    windows   the moments that answer the question, in seconds, or None where they are not known
    """

    qid: str
    times: Sequence[float]
    indices: Sequence[int]
    scores: Sequence[float] | None = None
    windows: Sequence[Window] | None = None

    def __post_init__(self) -> None:
        lengths = {"indices": len(self.indices)}
        if self.scores is not None:
            lengths["scores"] = len(self.scores)
        wrong = {name: length for name, length in lengths.items() if length != len(self.times)}
        if wrong:
            raise ValueError(f"question {self.qid}: {len(self.times)} times, but {wrong}")

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Selector(ABC):
    """Chooses `k` keyframes. Subclasses write `_choose`; `needs_scores` says whether somebody must score the frames."""

    needs_scores: ClassVar[bool] = False
    k: int

    def __post_init__(self) -> None:
        if type(self.k) is not int or self.k < 1:
            raise UserError(f"selector.k={self.k!r}: must be a whole number of keyframes, at least 1")

    def select(self, candidates: Candidates) -> list[int]:
        """Positions 0..n-1 of exactly k different frames, in time order.

        Raises UserError when there are fewer than k candidates.
        """
        n = len(candidates)
        if self.k > n:
            raise UserError(
                f"question {candidates.qid}: selector.k={self.k} keyframes asked for, but only n={n} frames "
                f"were sampled; lower selector.k to at most {n} or sample more frames"
            )
        return sorted(self._choose(candidates))

    @abstractmethod
    def _choose(self, candidates: Candidates) -> list[int]:
        """k different positions, in any order; there are at least k candidates."""


def spread(n: int, k: int) -> list[int]:
    """k different positions spread evenly over 0..n-1 (k <= n): the middles of k equal parts.

    The rule by which evaluation samples frames from a video (edges cut to whole numbers, then (a+b)//2).
    """
    edges = np.linspace(0, n, k + 1).astype(int).tolist()
    return [(a + b) // 2 for a, b in pairwise(edges)]


def fill_evenly(chosen: list[int], n: int, k: int) -> list[int]:
    """`chosen` and as many of k evenly spread positions as bring it up to k; at most k may be chosen already."""
    others = [i for i in spread(n, k) if i not in chosen]
    return chosen + [others[i] for i in spread(len(others), k - len(chosen))]


def checked_scores(candidates: Candidates) -> Sequence[float]:
    """The candidates' scores. UserError names the first frame whose score is NaN; ValueError where nobody scored."""
    if candidates.scores is None:
        raise ValueError(f"question {candidates.qid}: this selector needs scores (needs_scores is True)")
    _refuse(candidates, candidates.scores, math.isnan)
    return candidates.scores


def unit_scores(candidates: Candidates) -> list[float] | None:
    """The scores brought to 0..1 by their least and greatest, or None where all are equal.

    Shifting all scores or multiplying them by a positive number changes nothing. UserError for a score that is
    NaN or infinite: there is no scale then.
    """
    scores = checked_scores(candidates)
    _refuse(candidates, scores, math.isinf)
    low, high = min(scores), max(scores)
    return None if low == high else [(score - low) / (high - low) for score in scores]


def best(scores: Sequence[float], positions: Iterable[int], k: int) -> list[int]:
    """The k of `positions` (rising) with the highest scores, best first; of equal scores the earlier position."""
    return sorted(positions, key=lambda i: -scores[i])[:k]  # a stable sort


def _refuse(candidates: Candidates, scores: Sequence[float], bad: Callable[[float], bool]) -> None:
    for position, score in enumerate(scores):
        if bad(score):
            raise UserError(
                f"question {candidates.qid}: the score of frame {candidates.indices[position]} is {score}; "
                "run the model in float32 or bfloat16 (float16 overflows in T5)"
            )


@dataclass(frozen=True)
class LocalizerTopK(Selector):
    """The k frames of highest score; of equal scores the earlier frame.

    SeViLA's rule (Yu et al. 2023, section 3.2: the top-k frames by s_i), with any scorer.
    """

    needs_scores: ClassVar[bool] = True

    def _choose(self, candidates: Candidates) -> list[int]:
        return best(checked_scores(candidates), range(len(candidates)), self.k)


@dataclass(frozen=True)
class Uniform(Selector):
    """k frames spread evenly over the candidates."""

    def _choose(self, candidates: Candidates) -> list[int]:
        return spread(len(candidates), self.k)


@dataclass(frozen=True)
class Random(Selector):
    """k frames drawn without replacement, from `seed` and the question's id alone.

    The order of the questions, workers and library versions do not matter: positions are ranked by a hash.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.seed) is not int:
            raise UserError(f"selector.seed={self.seed!r}: must be a whole number")

    def _choose(self, candidates: Candidates) -> list[int]:
        def rank(position: int) -> bytes:
            return hashlib.sha256(f"{self.seed}:{candidates.qid}:{position}".encode()).digest()

        return sorted(range(len(candidates)), key=rank)[: self.k]


@dataclass(frozen=True)
class Oracle(Selector):
    """The true frames, evenly spread where there are more than k, then filled up to k with uniform ones.

    A question with no true frame among its candidates gets uniform frames. Raises UserError where the
    windows are not known at all.
    """

    def _choose(self, candidates: Candidates) -> list[int]:
        if candidates.windows is None:
            raise UserError(
                f"question {candidates.qid}: selector=oracle needs the true windows, which this data set "
                "does not give; choose another selector"
            )
        true = true_positions(candidates.times, candidates.windows)
        if len(true) >= self.k:
            return [true[i] for i in spread(len(true), self.k)]
        return fill_evenly(true, len(candidates), self.k)


@dataclass(frozen=True)
class AdaptiveSplit(Selector):
    """Adaptive keyframe sampling (Tang et al., CVPR 2025, "Adaptive Keyframe Sampling for Long Video Understanding").

    Scores are brought to 0..1. Where the k best scores of a segment are in the mean more than `threshold` above the
    segment's mean, the segment is kept and gives its best frames; otherwise it is halved, at most `depth` times,
    and each half gives half as many.

    The paper rounds a segment's quota int(k / 2^depth) down and so may choose fewer than k: of k = 4 a segment at
    depth 3 gives none, and where none stands out no frame at all is left. At so small a k this is another rule, and
    its results are not the paper's. Here quotas always add up to k: a quota is halved exactly; an odd frame goes to
    the half with the higher best score (of equals the earlier one), what a half is too short for goes to the other,
    and a quota of one frame is not divided. Wherever the paper's quotas are whole, and fit, the frames are the
    same. Constant scores give uniform frames.
    """

    needs_scores: ClassVar[bool] = True
    threshold: float = 0.8
    depth: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.threshold) not in (int, float) or not math.isfinite(self.threshold):
            raise UserError(f"selector.threshold={self.threshold!r}: must be a number; scores are brought to 0..1")
        if type(self.depth) is not int or self.depth < 0:
            raise UserError(f"selector.depth={self.depth!r}: must be a whole number of halvings, at least 0")

    def _choose(self, candidates: Candidates) -> list[int]:
        scores = unit_scores(candidates)
        if scores is None:
            return spread(len(candidates), self.k)
        return self._take(scores, range(len(scores)), self.k, 0)

    def _take(self, scores: Sequence[float], segment: range, quota: int, depth: int) -> list[int]:
        """`quota` frames of a segment; it has at least so many."""
        if quota <= 1 or depth == self.depth or self._stands_out(scores, segment):
            return best(scores, segment, quota)
        middle = len(segment) // 2
        left, right = segment[:middle], segment[middle:]
        odd = quota % 2 and max(scores[i] for i in left) >= max(scores[i] for i in right)
        first = min(quota // 2 + odd, len(left))
        second = min(quota - first, len(right))
        first = quota - second
        return self._take(scores, left, first, depth + 1) + self._take(scores, right, second, depth + 1)

    def _stands_out(self, scores: Sequence[float], segment: range) -> bool:
        top = [scores[i] for i in best(scores, segment, self.k)]
        return sum(top) / len(top) - sum(scores[i] for i in segment) / len(segment) > self.threshold


@dataclass(frozen=True)
class InverseTransform(Selector):
    """Inverse transform sampling (Liu et al., CVPR 2025, "BOLT: Boost Large Vision-Language Model Without Training").

    Scores are brought to 0..1 and raised to `power` (published: 3, on LongVideoBench 2.5; higher is closer to
    top-k); their running sum is a distribution over the video, of which the frames at k evenly spaced quantiles
    from 1/k to 1 - 1/k are taken. For k = 1, which the paper leaves open, it is the median.

    A frame that several quantiles hit counts once, and the best frames not yet taken fill up to k (the paper shows
    it several times). Constant scores give uniform frames.
    """

    needs_scores: ClassVar[bool] = True
    power: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.power) not in (int, float) or not 0 < self.power < math.inf:
            raise UserError(f"selector.power={self.power!r}: must be a number above 0")

    def _choose(self, candidates: Candidates) -> list[int]:
        scores = unit_scores(candidates)
        if scores is None:
            return spread(len(candidates), self.k)
        reached = np.cumsum(np.power(scores, self.power))
        quantiles = np.linspace(1 / self.k, 1 - 1 / self.k, self.k) if self.k > 1 else np.array([0.5])
        hit = set(np.searchsorted(reached / reached[-1], quantiles).tolist())
        rest = [i for i in range(len(scores)) if i not in hit]
        return [*hit, *best(scores, rest, self.k - len(hit))]


# -- rules that read a file: keyframes of another run, spans of a moment-retrieval model ---


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
