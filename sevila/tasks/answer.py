"""Forward-chain fine-tuning: the Answerer learns from keyframes of the frozen Localizer (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sevila.data.dataset import Batch, patches_of
from sevila.data.records import Question
from sevila.model.head import Head
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.selection.rules import Selector
from sevila.selection.scorers import LocalizerScorer, by_rule
from sevila.tasks.batches import chosen_frames
from sevila.tasks.chain import Chosen, ForwardChain, Prediction
from sevila.tasks.evaluation import by_processes, validation_metrics


class Keyframes(Protocol):
    def pick(self, batch: Batch, patches: Tensor) -> list[list[int]]:
        """For each row of a batch, patches [B, T, P, Dv], which of its frames the Answerer shall see, in time order."""
        ...


class AllFrames:
    """The batch holds keyframes only: they were chosen beforehand."""

    def pick(self, batch: Batch, patches: Tensor) -> list[list[int]]:
        """All positions of each row; patches [B, T, P, Dv]."""
        return [list(range(len(row))) for row in batch.indices]


@dataclass(frozen=True)
class SelectEachStep:
    """As published: the frozen Localizer scores the batch's n random frames anew in every step.

    scorer   how it is shown them; None: a frame at a time
    """

    model: SeViLA
    selector: Selector
    scorer: LocalizerScorer | None = None

    @torch.no_grad()
    def pick(self, batch: Batch, patches: Tensor) -> list[list[int]]:
        """The keyframes of each row by scores of now; patches [B, T, P, Dv]."""
        scorer = self.scorer or LocalizerScorer(self.model)
        videos = [
            EncodedVideo(tuple(indices), tuple(times), row[: len(times)])  # without padding
            for indices, times, row in zip(batch.indices, batch.times, patches, strict=True)
        ]
        asked: list[Tensor] | list[None] = [None] * len(videos)
        if self.selector.needs_scores:
            asked = scorer.score_each(videos, batch.questions)
        picked = []
        for encoded, question, scores in zip(videos, batch.questions, asked, strict=True):
            (found,) = by_rule(encoded, [question], self.selector, scores)
            picked.append(list(found.positions))
        return picked


class AnswerTask:
    """Loss: cross-entropy on "Option X", as the chain answers; evaluation: its accuracy on the validation questions.

    benchmark   whose own numbers the evaluation has too, as `data.name`; here and in the other tasks about questions
    """

    def __init__(
        self, chain: ForwardChain, validation: Sequence[Question], keyframes: Keyframes, benchmark: str = ""
    ) -> None:
        self.chain, self.validation, self.keyframes = chain, validation, keyframes
        self.benchmark = benchmark
        self.model = chain.model
        self._chosen: list[Chosen] | None = None

    @property
    def head(self) -> Head:
        return self.model.answerer.head

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Scalar: the mean over the batch's B questions, each with its own keyframes."""
        # encode: [B, T, P, Dv]
        patches = patches_of(self.model.backbone, batch)
        # localize: the frozen Localizer and the selector choose K of the T frames
        picked = self.keyframes.pick(batch, patches)
        # answer: rows with the same number of keyframes go through the model together
        alike: dict[int, list[int]] = {}
        for row, positions in enumerate(picked):
            alike.setdefault(len(positions), []).append(row)
        losses = []
        for rows in alike.values():
            chosen = chosen_frames(patches, [picked[row] for row in rows], rows).unflatten(0, (len(rows), -1))
            # [N, K, P, Dv]
            loss = self.chain.answering.loss(self.model, chosen, [batch.questions[row] for row in rows])
            losses.append(loss * (len(rows) / len(picked)))
        return sum(losses[1:], start=losses[0]), {}

    def evaluate(self) -> dict[str, float]:
        return validation_metrics(self.benchmark, by_processes(self.validation, self._predict, Prediction))

    def _predict(self, questions: Sequence[Question]) -> list[Prediction]:
        if self._chosen is None:  # the selection is frozen: the validation keyframes stay what they are
            self._chosen = self.chain.choose(questions, "validation keyframes")
        return self.chain.predict(questions, "validation", self._chosen)
