"""SeViLA: Localizer and Answerer, two heads over one frozen backbone (paper, section 3.2 and figure 2).

encode     T frames -> patches, once a video                                `Backbone.encode`
localize   patches and a question -> each frame's logit of "yes"            `SeViLA.localize`
choose     scores -> K keyframes                                            `sevila.selection`
answer     keyframes in time order and the question -> an option            `SeViLA.answer`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.head import Head
from sevila.model.language import AnswerDecoding, Direct, passes
from sevila.model.precision import wide
from sevila.model.prompts import Prompts, QuestionPrompts, letters, open_prompt, target


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


class Localizer(nn.Module):
    """How much does a frame matter for a question? Its score is the language model's raw logit of "yes"."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def word_logits(
        self, soft: Tensor, texts: Sequence[str], words: Sequence[str] = ("yes",), numbered: bool = False
    ) -> Tensor:
        """N rows of K frames, soft [N, K, Q, Dl], and their prompts -> logits of `words` as first word, [N, words].

        The paper's rows have one frame, behind plain "Frame: "; several stand `numbered`. In float32 at least.
        """
        embeds, mask = self.backbone.assemble(soft, texts, numbered)
        hidden = self.backbone.run_encoder(embeds, mask)
        start = torch.full((len(hidden), 1), self.backbone.start, device=hidden.device)
        states = self.backbone.run_decoder(hidden, mask, start)[:, 0]
        return self.backbone.logits(states, [self.backbone.token(word) for word in words])

    def loss(self, patches: Tensor, texts: Sequence[str], labels: Sequence[bool]) -> Tensor:
        """Cross-entropy on "yes </s>" or "no </s>", one row a frame (paper, section 3.3).

        patches [N, P, Dv]; texts and labels one a frame. Scalar; gradients reach this head alone.
        """
        embeds, mask = self.backbone.assemble(self.head(patches)[:, None], texts, numbered=False)
        return self.backbone.answer_loss(embeds, mask, ["yes" if label else "no" for label in labels])


class Answerer(nn.Module):
    """Keyframes and a question in, logits of the option letters out."""

    def __init__(self, backbone: Backbone, head: Head, decoding: AnswerDecoding | None = None) -> None:
        super().__init__()
        self.backbone, self.head, self.decoding = backbone, head, decoding or Direct()

    def option_logits(
        self,
        soft: Tensor,
        texts: Sequence[str],
        options: int,
        numbered: bool = True,
        decoding: AnswerDecoding | None = None,
    ) -> Tensor:
        """N rows of K keyframes in time order, soft [N, K, Q, Dl], one text a row -> logits of the letters [N, A].

        numbered   behind "Frame 1: ", "Frame 2: ", ...; a frame that is answered from alone stands behind "Frame: "
        decoding   in the place of the Answerer's own
        """
        embeds, mask = self.backbone.assemble(soft, texts, numbered)
        hidden = self.backbone.run_encoder(embeds, mask)
        ids = [self.backbone.token(letter) for letter in letters(options)]
        return (decoding or self.decoding).logits(self.backbone, hidden, mask, ids)

    def loss(self, patches: Tensor, texts: Sequence[str], answers: Sequence[int], numbered: bool = True) -> Tensor:
        """Cross-entropy on "Option X </s>" (paper, section 3.3). patches [N, K, P, Dv]. Scalar."""
        return self.soft_loss(self.head(patches), texts, answers, numbered)

    def soft_loss(self, soft: Tensor, texts: Sequence[str], answers: Sequence[int], numbered: bool = True) -> Tensor:
        """The same from soft tokens [N, K, Q, Dl]."""
        embeds, mask = self.backbone.assemble(soft, texts, numbered)
        return self.backbone.answer_loss(embeds, mask, [target(answer) for answer in answers])


class SeViLA(nn.Module):
    """The Localizer finds frames, the Answerer answers from them."""

    def __init__(
        self,
        backbone: Backbone,
        localizer: Head,
        answerer: Head,
        decoding: AnswerDecoding | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.localizer = Localizer(backbone, localizer)
        self.answerer = Answerer(backbone, answerer, decoding)
        self.prompts = prompts or QuestionPrompts()
        self.eval()

    def localize(self, encoded: EncodedVideo, questions: Sequence[Asked]) -> Tensor:
        """Scores of T frames for M questions, [M, T] (paper, section 3.2: s_i, the logit of "yes" of frame i)."""
        return self.relevance(encoded.patches, self.localizer_prompts(questions))

    def answer(
        self,
        encoded: EncodedVideo,
        questions: Sequence[Asked],
        keyframes: Sequence[Sequence[int]],
        frames: Sequence[tuple[ScoredFrame, ...]] | None = None,
    ) -> list[Answer]:
        """Answers of M questions, each from its own keyframes, which are read together (paper, section 3.2).

        keyframes   of each question, positions among the T frames, in time order
        frames      of each question, the T frames with their scores, to go with its answer
        """
        numbers = [len(question.options) for question in questions]
        logits = self.option_logits(encoded.patches, keyframes, self.answerer_prompts(questions), numbers)
        rows = frames or [encoded.frames()] * len(questions)
        found = [Localization(row, tuple(chosen)) for row, chosen in zip(rows, keyframes, strict=True)]
        return [Answer.of(*each) for each in zip(questions, found, logits, strict=True)]

    def localizer_prompts(self, questions: Sequence[Asked]) -> list[str]:
        """What the Localizer is asked about every frame; without options a question or a sentence as it stands."""
        return [
            self.prompts.localize(q.question, q.options) if q.options else open_prompt(q.question) for q in questions
        ]

    def answerer_prompts(self, questions: Sequence[Asked]) -> list[str]:
        """What the Answerer is asked."""
        return [self.prompts.answer(q.question, q.options) for q in questions]

    @property
    def rows(self) -> int:
        """How many of the longest rows of one frame and its text fit into a pass (`Backbone.tokens`)."""
        return max(1, self.backbone.tokens // self._length(1, self.backbone.text_tokens))

    def _length(self, frames: int, text: int) -> int:
        """Tokens of a row: its frames, each behind its prefix, and its text."""
        return frames * (self.answerer.head.config.queries + len(self.backbone.prefix(frames))) + text

    def relevance(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        """How much each of T frames matters for each of M prompts: patches [T, P, Dv] -> [M, T]."""
        return self._first_word(patches, texts, ["yes"])[..., 0]

    def yes_no(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        """The Localizer's logits of "yes" and of "no": patches [T, P, Dv] and M prompts -> [M, T, 2].

        A frame's binary prediction (paper, appendix) is the word of the higher logit: greedy decoding between the two.
        """
        return self._first_word(patches, texts, ["yes", "no"])

    @torch.no_grad()
    def _first_word(self, patches: Tensor, texts: Sequence[str], words: Sequence[str]) -> Tensor:
        """The logits of these words, [M, T, words]. Every frame passes the head once, however many prompts there are.

        UserError for NaN and infinity, here and below.
        """
        soft = self.localizer.head(patches)
        pairs = [(m, t) for m in range(len(texts)) for t in range(len(soft))]
        lengths = [self._length(1, text) for text in self.backbone.lengths(texts)]
        out = torch.empty(len(pairs), len(words), dtype=wide(self.backbone.dtype), device=soft.device)
        for part in passes([lengths[m] for m, _ in pairs], self.backbone.tokens):
            rows, asked = soft[[pairs[i][1] for i in part]], [texts[pairs[i][0]] for i in part]
            out[part] = self.localizer.word_logits(rows[:, None], asked, words)
        out = out.view(len(texts), len(soft), len(words))
        _check_finite("a frame's score", out, texts)
        return out

    @torch.no_grad()
    def option_logits(
        self, patches: Tensor, positions: Sequence[Sequence[int]], texts: Sequence[str], options: Sequence[int]
    ) -> list[Tensor]:
        """Answers of M questions about one video, each from its own keyframes.

        patches [T, P, Dv]; positions: of each question, its keyframes' rows in time order; options: their numbers.
        Returns the option logits of each question, [A].
        """
        # only frames that somebody chose pass the Answerer's head, each of them once
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
                _check_finite("an option's logit", logits, [texts[m] for m in part])
                for m, row in zip(part, logits, strict=True):
                    out[m] = row
        return out

    @torch.no_grad()
    def single_frame_logits(self, patches: Tensor, texts: Sequence[str], options: Sequence[int]) -> list[Tensor]:
        """Answers of M questions from each of T frames alone: patches [T, P, Dv] -> of each question [T, A]."""
        soft = self.answerer.head(patches)
        frames = len(soft)
        return [
            self.frame_logits(soft, [text] * frames, [number] * frames)
            for text, number in zip(texts, options, strict=True)
        ]

    @torch.no_grad()
    def frame_logits(
        self, soft: Tensor, texts: Sequence[str], options: Sequence[int], decoding: AnswerDecoding | None = None
    ) -> Tensor:
        """Answers of N rows of one frame and one question each: soft [N, Q, Dl] -> [N, A], -inf behind a row's options.

        What the reverse chain asks the frozen Answerer (paper, section 3.3 and figure 3, right).
        """
        alike: dict[int, list[int]] = {}  # questions with as many options share a pass
        for row, number in enumerate(options):
            alike.setdefault(number, []).append(row)
        out = soft.new_full((len(texts), max(options)), -torch.inf, dtype=wide(self.backbone.dtype))
        for number, members in alike.items():
            for start in range(0, len(members), self.rows):
                part = members[start : start + self.rows]
                asked = [texts[row] for row in part]
                logits = self.answerer.option_logits(soft[part][:, None], asked, number, False, decoding)
                _check_finite("an option's logit", logits, asked)
                out[part, :number] = logits
        return out


def _check_finite(what: str, values: Tensor, texts: Sequence[str]) -> None:
    """UserError where the results of a prompt, [N, ...] for N texts, hold NaN or infinity."""
    finite = values.isfinite().flatten(1).all(1)
    if not finite.all():
        raise UserError(
            f"{what} is NaN or infinite for the prompt {texts[finite.tolist().index(False)]!r}; "
            "run the model in float32 or bfloat16 (float16 overflows in T5)"
        )
