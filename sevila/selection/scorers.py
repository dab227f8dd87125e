"""Who scores frames: the interface of all scorers, and those that ask the Localizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from sevila.data.records import Question
from sevila.errors import UserError
from sevila.model.sevila import EncodedVideo, SeViLA


class Scorer(Protocol):
    """`needs_pictures` says whether it looks at the decoded pictures, or at patches alone."""

    needs_pictures: ClassVar[bool]

    def score(self, encoded: EncodedVideo, questions: Sequence[Question], pixels: Tensor | None) -> Tensor:
        """How much each of T frames of one video matters for each of M questions: [M, T]; higher is better.

        pixels   the T frames as decoded, uint8 [T, 3, S, S]; None where no scorer asked for them
        """
        ...


def question_text(question: Question) -> str:
    """Question and options as one plain text, for encoders that take no instructions."""
    return " ".join([question.question, *question.options]).strip()


class LocalizerScorer:
    """SeViLA's own (Yu et al. 2023, section 3.2): the language model's logit of "yes", a frame at a time.

    The scorers below ask the same Localizer, but let it read several frames at once.
    """

    needs_pictures: ClassVar[bool] = False

    def __init__(self, sevila: SeViLA) -> None:
        self.sevila = sevila

    def score(self, encoded: EncodedVideo, questions: Sequence[Question], pixels: Tensor | None = None) -> Tensor:
        return self.relevance(encoded.patches, self.sevila.localizer_prompts(questions))

    def relevance(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        """Patches [T, P, Dv] of one video and M prompts -> [M, T], without gradients."""
        return self.sevila.relevance(patches, texts)


class GroupScorer(LocalizerScorer):
    """The Localizer reads `frames` neighbours at once, and their one "yes" logit is the score of each of them.

    How frames are grouped, and that all of a group score alike, is this project's choice: the T frames are cut from
    the first on, and the last group may be smaller. So the `frames` best frames are the best group, and a smaller k
    takes the group's frames in the order that its rule gives to equals (`topk`: the earliest).
    """

    def __init__(self, sevila: SeViLA, frames: int = 4) -> None:
        if type(frames) is not int or frames < 1:
            raise UserError(f"scorer.frames={frames!r}: must be a whole number of frames read together, at least 1")
        super().__init__(sevila)
        self.frames = frames

    def _groups(self, frames: Tensor) -> Iterator[Tensor]:
        """[T, ...] -> the whole groups [G, frames, ...], then the smaller last one [1, rest, ...]."""
        whole = len(frames) - len(frames) % self.frames
        if whole:
            yield frames[:whole].unflatten(0, (-1, self.frames))
        if whole < len(frames):
            yield frames[None, whole:]


class LongImageScorer(GroupScorer):
    """Frames "concatenated into a long image for the Q-Former" (Yu et al. 2023, table 12).

    The queries attend to the patches of all frames of a group together and give one set of soft tokens, which stands
    behind plain "Frame: " as a single frame's does. With `frames=1` it is the Localizer as ever.
    """

    def relevance(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        columns = []
        for groups in self._groups(patches):
            long_images = groups.flatten(1, 2)  # [G, frames, P, Dv] -> [G, frames * P, Dv]
            logits = self.sevila.relevance(long_images, texts)
            columns.append(logits.repeat_interleave(groups.shape[1], dim=1))
        return torch.cat(columns, dim=1)


class JointLocalizerScorer(GroupScorer):
    """The language model reads the frames of a group as one sequence: this project's reading, not the paper's.

    Each frame has its own soft tokens: "Frame 1: ... Frame 2: ..." and then the prompt, as the Answerer reads
    keyframes. With `frames=1` a frame stands behind "Frame 1: " and not, as for the Localizer alone, behind "Frame: ".
    """

    @torch.no_grad()
    def relevance(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        soft = self.sevila.localizer.head(patches)
        columns = []
        for groups in self._groups(soft):
            logits = self._yes(groups, texts)
            columns.append(logits.repeat_interleave(groups.shape[1], dim=1))
        return torch.cat(columns, dim=1)

    def _yes(self, groups: Tensor, texts: Sequence[str]) -> Tensor:
        """[G, K, Q, Dl] and M texts -> the logits of "yes", [M, G]."""
        pairs = [(m, g) for m in range(len(texts)) for g in range(len(groups))]
        size = max(1, self.sevila.rows // groups.shape[1])
        parts = []
        for start in range(0, len(pairs), size):
            part = pairs[start : start + size]
            rows, asked = groups[[g for _, g in part]], [texts[m] for m, _ in part]
            parts.append(self.sevila.localizer.word_logits(rows, asked, numbered=True)[:, 0])
        return torch.cat(parts).view(len(texts), len(groups))
