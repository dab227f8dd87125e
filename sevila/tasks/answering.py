"""From keyframes to an answer: all of them read together, or a vote of every frame alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from sevila.data.records import Question
from sevila.model.sevila import Answer, EncodedVideo, Localization, SeViLA


class Answering(Protocol):
    def answer(
        self, model: SeViLA, encoded: EncodedVideo, questions: Sequence[Question], keyframes: Sequence[Sequence[int]]
    ) -> list[Answer]:
        """Answers of M questions about one video: of each its keyframes' positions, in time order."""
        ...

    def loss(self, model: SeViLA, patches: Tensor, questions: Sequence[Question]) -> Tensor:
        """The Answerer's loss on N questions, each with its own K keyframes: patches [N, K, P, Dv]. Scalar."""
        ...


class Joint:
    """As published: the language model reads all keyframes, in time order, before it answers once."""

    def answer(
        self, model: SeViLA, encoded: EncodedVideo, questions: Sequence[Question], keyframes: Sequence[Sequence[int]]
    ) -> list[Answer]:
        return model.answer(encoded, questions, keyframes)

    def loss(self, model: SeViLA, patches: Tensor, questions: Sequence[Question]) -> Tensor:
        texts = [model.prompts.answer(q.question, q.options) for q in questions]
        return model.answerer.loss(patches, texts, [q.answer for q in questions])


class Voting:
    """Each keyframe is answered from alone, and the majority wins (the paper's baseline "voting").

    Between options with equally many votes the one of higher mean log-probability wins: the paper does not say.
    The numbers of the options are these means.
    """

    def answer(
        self, model: SeViLA, encoded: EncodedVideo, questions: Sequence[Question], keyframes: Sequence[Sequence[int]]
    ) -> list[Answer]:
        found = [Localization(encoded.frames(), tuple(positions)) for positions in keyframes]
        return [self._vote(model, encoded, *asked) for asked in zip(questions, found, strict=True)]

    def _vote(self, model: SeViLA, encoded: EncodedVideo, question: Question, found: Localization) -> Answer:
        text = model.prompts.answer(question.question, question.options)
        patches = encoded.patches[list(found.positions)]
        (logits,) = model.single_frame_logits(patches, [text], [len(question.options)])
        votes = logits.argmax(-1)
        count = torch.bincount(votes, minlength=len(question.options))
        means = logits.log_softmax(-1).mean(0)
        option = int(means.masked_fill(count < count.max(), -torch.inf).argmax())
        answer = Answer.of(question, found, means)
        return replace(answer, option=option, text=question.options[option], votes=tuple(votes.tolist()))

    def loss(self, model: SeViLA, patches: Tensor, questions: Sequence[Question]) -> Tensor:
        each = [q for q in questions for _ in range(patches.shape[1])]
        texts = [model.prompts.answer(q.question, q.options) for q in each]
        alone = patches.flatten(0, 1)[:, None]  # [N K, 1, P, Dv]
        return model.answerer.loss(alone, texts, [q.answer for q in each], numbered=False)
