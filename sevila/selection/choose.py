"""From scores to keyframes: the one place where frames are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from sevila.data.records import Question
from sevila.model.sevila import EncodedVideo, Localization
from sevila.selection.base import Candidates, Selector
from sevila.selection.scorers import Scorer


def choose_keyframes(
    encoded: EncodedVideo,
    questions: Sequence[Question],
    selector: Selector,
    scorer: Scorer,
    pixels: Tensor | None = None,
) -> list[Localization]:
    """Keyframes of M questions about one video, whose T frames are scored together (paper, section 3.2: top-k "yes").

    selector   its k is cut to T
    scorer     asked only where the selector goes by scores
    pixels     the frames as decoded, uint8 [T, 3, S, S], for a scorer that looks at them
    """
    scores: list[list[float] | None] = [None] * len(questions)
    if selector.needs_scores:
        scores = list(scorer.score(encoded, questions, pixels).tolist())
    rule = replace(selector, k=min(selector.k, len(encoded)))
    chosen = []
    for question, row in zip(questions, scores, strict=True):
        candidates = Candidates(question.qid, encoded.times, encoded.indices, row, question.windows)
        chosen.append(Localization(encoded.frames(row), tuple(rule.select(candidates))))
    return chosen
