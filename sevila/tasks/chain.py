"""The forward chain over many questions: Localizer, selector, Answerer; and what it predicted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sevila.data.dataset import Sample, VideoSource, patches_of
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.metrics.choice import Choice, multiple_choice, percent
from sevila.metrics.keyframes import Selection, keyframe_metrics
from sevila.model.sevila import EncodedVideo, ScoredFrame, SeViLA
from sevila.selection import Selector, choose_keyframes
from sevila.selection.scorers import LocalizerScorer, Scorer
from sevila.tasks import cache
from sevila.tasks.answering import Answering, Joint


@dataclass(frozen=True)
class Choosing:
    """The frames of a question and which of them are its keyframes (positions, in time order)."""

    question: Question
    frames: tuple[ScoredFrame, ...]
    keyframes: tuple[int, ...]

    def to_row(self) -> dict[str, Any]:
        """For a store, which knows questions by content; numbers in full."""
        return {"frames": [[f.index, f.time, f.score] for f in self.frames], "keyframes": self.keyframes}

    @classmethod
    def from_row(cls, question: Question, row: Mapping[str, Any]) -> Choosing:
        """KeyError, TypeError or ValueError for a row that says something else."""
        frames = tuple(_frame(*frame) for frame in row["frames"])
        return cls(question, frames, tuple(_position(place, len(frames)) for place in row["keyframes"]))


@dataclass(frozen=True)
class Prediction(Choosing):
    """... and the answer: its index, the logit of every option, and each keyframe's vote where they voted."""

    prediction: int
    option_logits: tuple[float, ...]
    votes: tuple[int, ...] | None = None

    def to_row(self) -> dict[str, Any]:
        votes = None if self.votes is None else list(self.votes)
        return {**super().to_row(), "option": self.prediction, "logits": list(self.option_logits), "votes": votes}

    @classmethod
    def from_row(cls, question: Question, row: Mapping[str, Any]) -> Prediction:
        chosen = Choosing.from_row(question, row)
        options = len(question.options)
        votes = None if row["votes"] is None else tuple(_position(vote, options) for vote in row["votes"])
        logits = tuple(float(logit) for logit in row["logits"])
        if len(logits) != options:
            raise ValueError(f"{len(logits)} logits of {options} options")
        return cls(question, chosen.frames, chosen.keyframes, _position(row["option"], options), logits, votes)

    def to_json(self) -> dict[str, Any]:
        """A line of predictions.jsonl; times in seconds, logits and scores to six digits."""
        question = self.question
        frames = [{"index": f.index, "time": round(f.time, 3), "score": _round(f.score)} for f in self.frames]
        return {
            "qid": question.qid,
            "video": question.video,
            "qtype": question.qtype,
            "answer": question.answer,
            "prediction": self.prediction,
            "option_logits": [_round(logit) for logit in self.option_logits],
            **({} if self.votes is None else {"votes": list(self.votes)}),
            "keyframes": [frames[i] for i in self.keyframes],
            "frames": frames,
        }


def _frame(index: int, time: float, score: float | None) -> ScoredFrame:
    if type(index) is not int or index < 0:
        raise ValueError(f"frame {index!r}")
    return ScoredFrame(index, float(time), None if score is None else float(score))


def _position(place: int, among: int) -> int:
    if type(place) is not int or not 0 <= place < among:
        raise ValueError(f"place {place!r} among {among}")
    return place


def _round(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.6g}")


def need_answers(questions: Sequence[Question]) -> None:
    """UserError where an answer is hidden, for trainings."""
    hidden = [question.qid for question in questions if question.answer is None]
    if hidden:
        raise UserError(f"{len(hidden)} questions have no answer (such as {hidden[0]}): train on a split with answers")


def need_an_answer(validation: Sequence[Question]) -> None:
    """UserError where no answer is known at all, for the validation of trainings."""
    if all(question.answer is None for question in validation):
        raise UserError(
            f"data.val: none of its {len(validation)} questions has an answer, and the best head is chosen by them; "
            "name a file with answers"
        )


@dataclass(frozen=True)
class ForwardChain:
    """The model, the frames, who scores them (the Localizer, if None), the rule that picks k, and how these answer.

    `selector.k` is cut to the length of a video that is shorter.
    """

    model: SeViLA
    selector: Selector
    source: VideoSource
    scorer: Scorer | None = None
    answering: Answering = field(default_factory=Joint)

    def choose(self, questions: Sequence[Question], label: str | None = None) -> list[Choosing]:
        """Choose keyframes only, in the questions' order. `label` names a progress bar, None shows none.

        Where the source has a store, what this Localizer chose before is read from it: meant for a frozen one.
        """

        def make(places: list[int]) -> Iterator[tuple[int, Choosing]]:
            asked = [questions[place] for place in places]
            for rows, sample in self.source.walk(asked, label):
                found = self._choose([asked[row] for row in rows], sample, self._encoded(sample))
                yield from zip([places[row] for row in rows], found, strict=True)

        store = self.source.store
        known = store and cache.choices(self.model, self.source, self.selector, self.scorer, store)
        if known:
            return known.get(questions, make, Choosing.to_row, Choosing.from_row)
        made = dict(make(list(range(len(questions)))))
        return [made[place] for place in range(len(questions))]

    def predict(
        self,
        questions: Sequence[Question],
        label: str | None = None,
        chosen: Sequence[Choosing] | None = None,
        keep: Path | None = None,
    ) -> list[Prediction]:
        """Answer all questions, in their order.

        chosen   keyframes chosen before, in that order too, to answer from
        keep     a run's own folder for answers under way: what an interrupted call has made, the next one reads
        """
        if keep is not None:
            return self._resumed(questions, label, keep)
        made = dict(self._predicted(questions, label, chosen))
        return [made[place] for place in range(len(questions))]

    def _resumed(self, questions: Sequence[Question], label: str | None, folder: Path) -> list[Prediction]:
        def make(places: list[int]) -> Iterator[tuple[int, Prediction]]:
            if len(places) < len(questions):
                print(f"sevila: {len(questions) - len(places)} questions were answered before", file=sys.stderr)
            for place, prediction in self._predicted([questions[place] for place in places], label):
                yield places[place], prediction

        known = cache.answers(self.model, self.source, folder)
        return known.get(questions, make, Prediction.to_row, Prediction.from_row)

    def _predicted(
        self, questions: Sequence[Question], label: str | None, chosen: Sequence[Choosing] | None = None
    ) -> Iterator[tuple[int, Prediction]]:
        """(place among the questions, prediction), video by video."""
        for rows, sample in self.source.walk(questions, label):
            encoded = self._encoded(sample)
            if chosen is None:
                choosings = self._choose([questions[r] for r in rows], sample, encoded)
            else:
                choosings = [chosen[r] for r in rows]
            yield from zip(rows, self._answer(choosings, encoded), strict=True)

    @torch.no_grad()
    def _encoded(self, sample: Sample) -> EncodedVideo:
        frames = sample.frames
        return EncodedVideo(frames.indices, frames.times, patches_of(self.model.backbone, sample))

    def _choose(self, questions: Sequence[Question], sample: Sample, encoded: EncodedVideo) -> list[Choosing]:
        """Keyframes of all questions about one video, whose frames are scored together."""
        scorer = self.scorer or LocalizerScorer(self.model)
        found = choose_keyframes(encoded, questions, self.selector, scorer, sample.frames.pixels)
        return [Choosing(q, each.frames, each.positions) for q, each in zip(questions, found, strict=True)]

    def _answer(self, chosen: Sequence[Choosing], encoded: EncodedVideo) -> list[Prediction]:
        answers = self.answering.answer(
            self.model, encoded, [c.question for c in chosen], [c.keyframes for c in chosen]
        )
        return [
            Prediction(c.question, c.frames, c.keyframes, a.option, a.logits, a.votes)
            for c, a in zip(chosen, answers, strict=True)
        ]


def selection_metrics(choosings: Iterable[Choosing]) -> dict[str, float]:
    """Keyframe recall and hit, where true windows are known."""
    return keyframe_metrics(Selection([f.time for f in c.frames], c.keyframes, c.question.windows) for c in choosings)


def any_frame(predictions: Iterable[Prediction]) -> dict[str, float]:
    """`oracle_any_frame`: share of the questions that at least one keyframe alone answers rightly, in percent.

    The paper's "oracle" of table 9; empty where the keyframes did not vote.
    """
    voted = [p for p in predictions if p.votes is not None and p.question.answer is not None]
    right = sum(p.question.answer in p.votes for p in voted)
    return {"oracle_any_frame": percent(right, len(voted))} if voted else {}


def chain_metrics(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What metrics.json holds: accuracy, accuracy_by_type, n, and keyframe recall and hit where they can be known.

    Of a split that hides all answers there is no accuracy, and n is 0.
    """
    choices = [Choice(p.question.answer, p.prediction, p.question.qtype) for p in predictions]
    known = any(choice.answer is not None for choice in choices)
    scores = multiple_choice(choices) if known else {"n": 0}
    return {**scores, **any_frame(predictions), **selection_metrics(predictions)}
