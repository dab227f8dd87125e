"""SeViLA: two heads over one backbone (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sevila.errors import UserError
from sevila.model.answerer import Answerer
from sevila.model.backbone import Backbone
from sevila.model.head import Head
from sevila.model.localizer import Localizer
from sevila.model.passes import passes
from sevila.model.precision import wide
from sevila.model.prompts import Prompts, QuestionPrompts, open_prompt
from sevila.model.scoring import Scoring


class Asked(Protocol):
    """What the model needs of a question (`sevila.Question` is one). Without options it can be localized only."""

    @property
    def question(self) -> str: ...

    @property
    def options(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class ScoredFrame:
    """A sampled frame: its number in the video, its time in seconds, the Localizer's raw "yes" logit."""

    index: int
    time: float
    score: float | None


@dataclass(frozen=True, eq=False)
class EncodedVideo:
    """What the frozen tower makes of T sampled frames, before either head's layer norm: once a video.

    indices   T frame numbers in the video
    times     T seconds since its first frame
    patches   [T, P, Dv]
    """

    indices: tuple[int, ...]
    times: tuple[float, ...]
    patches: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def frames(self, scores: Sequence[float] | None = None) -> tuple[ScoredFrame, ...]:
        """The T frames with their scores, None where nobody scored them."""
        row = [None] * len(self) if scores is None else scores
        return tuple(ScoredFrame(*frame) for frame in zip(self.indices, self.times, row, strict=True))


@dataclass(frozen=True)
class Localization:
    """All T frames that were seen, and which of them are the keyframes: positions in time order."""

    frames: tuple[ScoredFrame, ...]
    positions: tuple[int, ...]

    @property
    def keyframes(self) -> tuple[ScoredFrame, ...]:
        return tuple(self.frames[position] for position in self.positions)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it: `keyframes` and `frames`."""
        return {"keyframes": [asdict(f) for f in self.keyframes], "frames": [asdict(f) for f in self.frames]}


@dataclass(frozen=True)
class Answer:
    """`option` counts from 0; `probabilities` are the softmax of `logits`, one an option.

    keyframes   those that the answer was read from, in time order
    frames      all that were seen
    votes       where each keyframe answered alone: its option, in time order
    """

    option: int
    text: str
    probabilities: tuple[float, ...]
    keyframes: tuple[ScoredFrame, ...]
    frames: tuple[ScoredFrame, ...]
    logits: tuple[float, ...]
    votes: tuple[int, ...] | None = None

    @classmethod
    def of(cls, question: Asked, found: Localization, logits: Tensor) -> Answer:
        """The option of the highest logit [A]."""
        option = int(logits.argmax())
        chances = tuple(logits.softmax(-1).tolist())
        return cls(option, question.options[option], chances, found.keyframes, found.frames, tuple(logits.tolist()))

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "option": self.option,
            "text": self.text,
            "probabilities": list(self.probabilities),
            "logits": list(self.logits),
            **({} if self.votes is None else {"votes": list(self.votes)}),
            "keyframes": [asdict(frame) for frame in self.keyframes],
            "frames": [asdict(frame) for frame in self.frames],
        }


class SeViLA(nn.Module):
    """The Localizer chooses frames, the Answerer answers from them."""

    def __init__(
        self,
        backbone: Backbone,
        localizer: Head,
        answerer: Head,
        scoring: Scoring | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.localizer = Localizer(backbone, localizer)
        self.answerer = Answerer(backbone, answerer, scoring)
        self.prompts = prompts or QuestionPrompts()
        self.eval()

    @property
    def rows(self) -> int:
        """How many of the longest rows of one frame and its text fit into a pass (`Backbone.tokens`)."""
        return max(1, self.backbone.tokens // self._length(1, self.backbone.text_tokens))

    def _length(self, frames: int, text: int) -> int:
        """Tokens of a row: its frames, each behind its prefix, and its text."""
        return frames * (self.answerer.head.config.queries + len(self.backbone.prefix(frames))) + text

    def localize(self, encoded: EncodedVideo, questions: Sequence[Asked]) -> Tensor:
        """Scores of T frames for M questions: the language model's logits of "yes", [M, T] (paper, section 3.2).

        A question without options is asked as it stands, and a sentence as a moment query.
        """
        return self.relevance(encoded.patches, [self.localizer_prompt(question) for question in questions])

    def localizer_prompt(self, question: Asked) -> str:
        """What the Localizer is asked about every frame."""
        if question.options:
            return self.prompts.localize(question.question, question.options)
        return open_prompt(question.question)

    def answer(
        self,
        encoded: EncodedVideo,
        questions: Sequence[Asked],
        keyframes: Sequence[Sequence[int]],
        scores: Sequence[Sequence[float] | None] | None = None,
    ) -> list[Answer]:
        """Answers of M questions, each from its own keyframes, which are read together (paper, section 3.2).

        keyframes   of each question, positions among the T frames, in time order
        scores      of each question, T numbers to remember with its answer
        """
        texts = [self.prompts.answer(question.question, question.options) for question in questions]
        logits = self.option_logits(encoded.patches, keyframes, texts, [len(q.options) for q in questions])
        found = [
            Localization(encoded.frames(row), tuple(positions))
            for row, positions in zip(scores or [None] * len(questions), keyframes, strict=True)
        ]
        return [Answer.of(*each) for each in zip(questions, found, logits, strict=True)]

    @torch.no_grad()
    def relevance(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        """How much each of T frames matters for each of M prompts: patches [T, P, Dv] -> [M, T].

        The head looks at every frame once, however many prompts there are.
        """
        return self._first_word(patches, texts, ["yes"])[..., 0]

    @torch.no_grad()
    def yes_no(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        """The Localizer's logits of "yes" and of "no": patches [T, P, Dv] and M prompts -> [M, T, 2].

        A frame's binary prediction (paper, appendix) is the word of the higher logit: greedy decoding between the two.
        """
        return self._first_word(patches, texts, ["yes", "no"])

    def _first_word(self, patches: Tensor, texts: Sequence[str], words: Sequence[str]) -> Tensor:
        """The logits of these words, [M, T, len(words)]."""
        soft = self.localizer.head(patches)
        pairs = [(m, t) for m in range(len(texts)) for t in range(len(soft))]
        lengths = [self._length(1, text) for text in self.backbone.lengths(texts)]
        out = torch.empty(len(pairs), len(words), dtype=wide(self.backbone.dtype), device=soft.device)
        for part in passes([lengths[m] for m, _ in pairs], self.backbone.tokens):
            rows, asked = soft[[pairs[i][1] for i in part]], [texts[pairs[i][0]] for i in part]
            out[part] = self.localizer.first_word(rows, asked, words)
        out = out.view(len(texts), len(soft), len(words))
        for text, row in zip(texts, out, strict=True):
            _refuse_no_numbers("a frame's score", row, text)
        return out

    @torch.no_grad()
    def option_logits(
        self, patches: Tensor, positions: Sequence[Sequence[int]], texts: Sequence[str], options: Sequence[int]
    ) -> list[Tensor]:
        """Answers of M questions about one video, each from its own keyframes.

        patches [T, P, Dv]; positions: of each question, its keyframes' rows in time order; options: their numbers.
        Returns the option logits of each question, [A].
        """
        needed = sorted({position for row in positions for position in row})
        soft = self.answerer.head(patches[needed])
        place = {position: i for i, position in enumerate(needed)}
        alike: dict[tuple[int, int], list[int]] = {}  # questions of the same shape share a pass
        for m, row in enumerate(positions):
            alike.setdefault((len(row), options[m]), []).append(m)
        out: list[Tensor] = [patches.new_empty(0)] * len(texts)
        for (frames, number), members in alike.items():
            lengths = [self._length(frames, text) for text in self.backbone.lengths([texts[m] for m in members])]
            for chosen in passes(lengths, self.backbone.tokens):
                part = [members[i] for i in chosen]
                rows = torch.stack([soft[[place[position] for position in positions[m]]] for m in part])
                logits = self.answerer.option_logits(rows, [texts[m] for m in part], number)
                for m, row in zip(part, logits, strict=True):
                    _refuse_no_numbers("an option's logit", row, texts[m])
                    out[m] = row
        return out

    @torch.no_grad()
    def single_frame_logits(
        self, patches: Tensor, texts: Sequence[str], options: Sequence[int], scoring: Scoring | None = None
    ) -> list[Tensor]:
        """Answers of M questions from each of T frames alone: patches [T, P, Dv] -> of each question [T, A].

        `scoring` takes the place of the Answerer's own.
        """
        soft = self.answerer.head(patches)
        out = []
        for text, number in zip(texts, options, strict=True):
            parts = [
                self.answerer.single_frame_logits(part, [text] * len(part), number, scoring)
                for part in soft.split(self.rows)
            ]
            out.append(torch.cat(parts))
            _refuse_no_numbers("an option's logit", out[-1], text)
        return out


def _refuse_no_numbers(what: str, values: Tensor, text: str) -> None:
    """UserError where a prompt's results, of any shape, hold NaN or infinity."""
    if not values.isfinite().all():
        raise UserError(
            f"{what} is NaN or infinite for the prompt {text!r}; "
            "run the model in float32 or bfloat16 (float16 overflows in T5)"
        )
