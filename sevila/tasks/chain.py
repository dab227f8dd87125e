"""The forward chain over a data set: Localizer, selector, Answerer (paper, section 3.2 and figure 3, left).

`map_videos` is the one walk over a data set: every video is decoded and encoded once, whoever asks about it. The chain,
pseudo-labels, moment retrieval and the trainings' validation go by it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import torch
from einops import rearrange
from torch import Tensor

from sevila.data.dataset import Record, Sample, VideoSource, patches_of
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.metrics.choice import Choice, multiple_choice, percent
from sevila.metrics.keyframes import Selection, keyframe_metrics, true_positions
from sevila.model.sevila import Answer, EncodedVideo, Localization, ScoredFrame, SeViLA
from sevila.selection.rules import Selector
from sevila.selection.scorers import LocalizerScorer, Scorer, choose_keyframes
from sevila.tasks import cache

T = TypeVar("T")

# -- what the chain gives ---


@dataclass(frozen=True)
class Chosen:
    """The frames of a question and which of them are its keyframes (positions, in time order)."""

    question: Question
    frames: tuple[ScoredFrame, ...]
    keyframes: tuple[int, ...]

    def to_row(self) -> dict[str, Any]:
        """For a store, which knows questions by content; numbers in full."""
        return {"frames": [[f.index, f.time, f.score] for f in self.frames], "keyframes": self.keyframes}

    @classmethod
    def from_row(cls, question: Question, row: Mapping[str, Any]) -> Chosen:
        """KeyError, TypeError or ValueError for a row that says something else."""
        frames = tuple(_frame(*frame) for frame in row["frames"])
        return cls(question, frames, tuple(_position(place, len(frames)) for place in row["keyframes"]))


@dataclass(frozen=True)
class Prediction(Chosen):
    """... and the answer: its index, the logit of every option, and each keyframe's vote where they voted."""

    prediction: int
    option_logits: tuple[float, ...]
    votes: tuple[int, ...] | None = None

    def to_row(self) -> dict[str, Any]:
        votes = None if self.votes is None else list(self.votes)
        return {**super().to_row(), "option": self.prediction, "logits": list(self.option_logits), "votes": votes}

    def pruned(self) -> Prediction:
        """The same with those frames alone that metrics look at: the keyframes, and those inside the true windows."""
        true = true_positions([frame.time for frame in self.frames], self.question.windows)
        kept = sorted({*self.keyframes, *true})
        keyframes = tuple(kept.index(position) for position in self.keyframes)
        return replace(self, frames=tuple(self.frames[position] for position in kept), keyframes=keyframes)

    @classmethod
    def from_row(cls, question: Question, row: Mapping[str, Any]) -> Prediction:
        chosen = Chosen.from_row(question, row)
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


# -- the walk over a data set ---


@dataclass(frozen=True)
class Stored(Generic[T]):
    """Results that need not be made again, and how they stand in a table's rows.

    known   what to say of results that were there already, such as "questions were answered before"
    """

    table: cache.ResultCache
    to_row: Callable[[T], Mapping[str, Any]]
    from_row: Callable[[Question, Mapping[str, Any]], T]
    known: str = ""


def map_videos(
    model: SeViLA,
    source: VideoSource,
    records: Sequence[Record],
    make: Callable[[EncodedVideo, list[int], Sample], Iterable[T]],
    label: str | None = None,
    stored: Stored[T] | None = None,
) -> list[T]:
    """One result a record, in their order; what each argument is, `each_video` says."""
    results = dict(each_video(model, source, records, make, label, stored))
    return [results[place] for place in range(len(records))]


@torch.no_grad()
def each_video(
    model: SeViLA,
    source: VideoSource,
    records: Sequence[Record],
    make: Callable[[EncodedVideo, list[int], Sample], Iterable[T]],
    label: str | None = None,
    stored: Stored[T] | None = None,
) -> Iterator[tuple[int, T]]:
    """(place, result) of every record as they are made; every video (or clip) is decoded and encoded once.

    make     gives the results of the records at some places, all about one video, from its frames' patches [T, P, Dv]
    label    names a progress bar, None shows none
    stored   where results are read from, those first, and written to
    """

    def made(places: list[int]) -> Iterator[tuple[int, T]]:
        if stored is not None and stored.known and len(places) < len(records):
            print(f"sevila: {len(records) - len(places)} {stored.known}", file=sys.stderr)
        for rows, sample in source.walk([records[place] for place in places], label):
            together = [places[row] for row in rows]
            frames = sample.frames
            encoded = EncodedVideo(frames.indices, frames.times, patches_of(model.backbone, sample))
            yield from zip(together, make(encoded, together, sample), strict=True)

    if stored is None:
        yield from made(list(range(len(records))))
    else:
        asked = cast(Sequence[Question], records)  # nothing else is stored
        yield from stored.table.each(asked, made, stored.to_row, stored.from_row)


# -- from keyframes to an answer: all of them together, or a vote of every frame alone ---


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
        """Patches [N, K, P, Dv] -> scalar: "Option X" after all K frames (section 3.3)."""
        return model.answerer.loss(patches, model.answerer_prompts(questions), true_answers(questions))


class Voting:
    """Each keyframe is answered from alone, and the majority wins (the paper's baseline "voting").

    Between options with equally many votes the one of higher mean log-probability wins: the paper does not say.
    The numbers of the options are these means.
    """

    def answer(
        self, model: SeViLA, encoded: EncodedVideo, questions: Sequence[Question], keyframes: Sequence[Sequence[int]]
    ) -> list[Answer]:
        numbers = [len(question.options) for question in questions]
        logits = model.single_frame_logits(encoded.patches, model.answerer_prompts(questions), numbers, keyframes)
        found = [Localization(encoded.frames(), tuple(positions)) for positions in keyframes]
        return [self._vote(*each) for each in zip(questions, found, logits, strict=True)]

    def _vote(self, question: Question, found: Localization, logits: Tensor) -> Answer:
        """By the logits [K, A] of each keyframe alone."""
        votes = logits.argmax(-1)
        count = torch.bincount(votes, minlength=len(question.options))
        means = logits.log_softmax(-1).mean(0)
        option = int(means.masked_fill(count < count.max(), -torch.inf).argmax())
        answer = Answer.of(question, found, means)
        return replace(answer, option=option, text=question.options[option], votes=tuple(votes.tolist()))

    def loss(self, model: SeViLA, patches: Tensor, questions: Sequence[Question]) -> Tensor:
        """Patches [N, K, P, Dv] -> scalar: "Option X" after each frame alone."""
        each = [q for q in questions for _ in range(patches.shape[1])]
        alone = rearrange(patches, "n k p d -> (n k) 1 p d")
        return model.answerer.loss(alone, model.answerer_prompts(each), true_answers(each), numbered=False)


# -- the chain ---


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

    def choose(self, questions: Sequence[Question], label: str | None = None) -> list[Chosen]:
        """Choose keyframes only, in the questions' order. `label` names a progress bar, None shows none.

        Where the source has a store, what this Localizer chose before is read from it: meant for a frozen one.
        """

        def make(encoded: EncodedVideo, places: list[int], sample: Sample) -> list[Chosen]:
            return self._choose([questions[place] for place in places], encoded, sample)

        store = self.source.store
        table = store and cache.choices(self.model, self.source, self.selector, self.scorer, store)
        stored = Stored(table, Chosen.to_row, Chosen.from_row) if table else None
        return map_videos(self.model, self.source, questions, make, label, stored)

    def predict(
        self,
        questions: Sequence[Question],
        label: str | None = None,
        chosen: Sequence[Chosen] | None = None,
        keep: Path | None = None,
    ) -> list[Prediction]:
        """Answer all questions, in their order.

        chosen   keyframes chosen before, in that order too, to answer from
        keep     a run's own folder for answers under way: what an interrupted call has made, the next one reads
        """
        answers = dict(self.answers(questions, label, chosen, keep))
        return [answers[place] for place in range(len(questions))]

    def answers(
        self,
        questions: Sequence[Question],
        label: str | None = None,
        chosen: Sequence[Chosen] | None = None,
        keep: Path | None = None,
    ) -> Iterator[tuple[int, Prediction]]:
        """The same as they are made, each with its question's place: for somebody who does not hold all of them."""

        def make(encoded: EncodedVideo, places: list[int], sample: Sample) -> list[Prediction]:
            if chosen is not None:
                return self._answer([chosen[place] for place in places], encoded)
            return self._answer(self._choose([questions[place] for place in places], encoded, sample), encoded)

        stored = None
        if keep is not None:
            table = cache.answers(self.model, self.source, keep)
            stored = Stored(table, Prediction.to_row, Prediction.from_row, "questions were answered before")
        return each_video(self.model, self.source, questions, make, label, stored)

    def _choose(self, questions: Sequence[Question], encoded: EncodedVideo, sample: Sample) -> list[Chosen]:
        """Localizer and selector: keyframes of all questions about one video, whose frames are scored together."""
        scorer = self.scorer or LocalizerScorer(self.model)
        found = choose_keyframes(encoded, questions, self.selector, scorer, sample.frames.pixels)
        return [Chosen(q, each.frames, each.positions) for q, each in zip(questions, found, strict=True)]

    def _answer(self, chosen: Sequence[Chosen], encoded: EncodedVideo) -> list[Prediction]:
        """Answerer: each question from its own keyframes."""
        asked, keyframes = [c.question for c in chosen], [c.keyframes for c in chosen]
        answers = self.answering.answer(self.model, encoded, asked, keyframes)
        return [
            Prediction(c.question, c.frames, c.keyframes, a.option, a.logits, a.votes)
            for c, a in zip(chosen, answers, strict=True)
        ]


# -- its numbers, and what they need ---


def need_answers(questions: Sequence[Question]) -> None:
    """UserError where an answer is hidden, for trainings."""
    hidden = [question.qid for question in questions if question.answer is None]
    if hidden:
        raise UserError(f"{len(hidden)} questions have no answer (such as {hidden[0]}): train on a split with answers")


def true_answers(questions: Sequence[Question]) -> list[int]:
    """The right option of each question. ValueError where it is hidden: `need_answers` has refused such a split."""
    answers = [question.answer for question in questions if question.answer is not None]
    if len(answers) < len(questions):
        raise ValueError("a question hides its answer")
    return answers


def need_an_answer(validation: Sequence[Question]) -> None:
    """UserError where no answer is known at all, for the validation of trainings."""
    if all(question.answer is None for question in validation):
        raise UserError(
            f"data.val: none of its {len(validation)} questions has an answer, and the best head is chosen by them; "
            "name a file with answers"
        )


def selection_metrics(chosen: Iterable[Chosen]) -> dict[str, float]:
    """Keyframe recall and hit, where true windows are known."""
    return keyframe_metrics(Selection([f.time for f in c.frames], c.keyframes, c.question.windows) for c in chosen)


def any_frame(predictions: Iterable[Prediction]) -> dict[str, float]:
    """`oracle_any_frame`: share of the questions that at least one keyframe alone answers rightly, in percent.

    The paper's "oracle" of table 9; empty where the keyframes did not vote.
    """
    voted = [p for p in predictions if p.votes is not None and p.question.answer is not None]
    right = sum(p.question.answer in (p.votes or ()) for p in voted)
    return {"oracle_any_frame": percent(right, len(voted))} if voted else {}


def chain_metrics(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What metrics.json holds: accuracy, accuracy_by_type, n, and keyframe recall and hit where they can be known.

    Of a split that hides all answers there is no accuracy, and n is 0.
    """
    choices = [Choice(p.question.answer, p.prediction, p.question.qtype) for p in predictions]
    known = any(choice.answer is not None for choice in choices)
    scores = multiple_choice(choices) if known else {"n": 0}
    return {**scores, **any_frame(predictions), **selection_metrics(predictions)}
