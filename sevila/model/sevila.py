"""SeViLA: Localizer and Answerer, two heads over one frozen backbone (paper, section 3.2 and figure 2).

encode     T frames -> patches, once a video                                `Backbone.encode`
localize   patches and a question -> each frame's logit of "yes"            `SeViLA.localize`
choose     scores -> K keyframes                                            `sevila.selection`
answer     keyframes in time order and the question -> an option            `SeViLA.answer`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.device import read_back, taken, uploaded
from sevila.model.head import Head
from sevila.model.language import AnswerDecoding, Direct, passes
from sevila.model.precision import wide
from sevila.model.prompts import Prompts, QuestionPrompts, letters, open_prompt, target
from sevila.model.records import Answer, Asked, EncodedVideo, Localization, ScoredFrame


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
        start = self.backbone.ids([self.backbone.start]).expand(len(hidden), -1)
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
        """Scores of T frames for M questions, [M, T] (paper, section 3.2: s_i, the logit of "yes" of frame i).

        Scores here and logits below are on the host, which waits for the device once a call.
        """
        return self.relevance(encoded.patches, self.localizer_prompts(questions))

    def localize_each(self, videos: Sequence[EncodedVideo], questions: Sequence[Asked]) -> list[Tensor]:
        """The same for B videos with a question each, all in one call: of each [1, T]."""
        texts = [[text] for text in self.localizer_prompts(questions)]
        found = self._first_word([video.patches for video in videos], texts, ["yes"])
        return [logits[..., 0] for logits in found]

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
        return self._first_word([patches], [texts], ["yes"])[0][..., 0]

    def yes_no(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        """The Localizer's logits of "yes" and of "no": patches [T, P, Dv] and M prompts -> [M, T, 2].

        A frame's binary prediction (paper, appendix) is the word of the higher logit: greedy decoding between the two.
        """
        return self._first_word([patches], [texts], ["yes", "no"])[0]

    @property
    def _apart(self) -> bool:
        """Whether each video of a batch has passes of its own.

        On a CPU the last digits of a row can depend on how many rows share its pass.
        """
        return self.backbone.device.type == "cpu"

    @torch.no_grad()
    def _first_word(
        self, videos: Sequence[Tensor], texts: Sequence[Sequence[str]], words: Sequence[str]
    ) -> list[Tensor]:
        """The logits of these words: of each video's T frames [T, P, Dv] for its M prompts, [M, T, words].

        UserError for NaN and infinity, here and below.
        """
        rows = [
            [(t, text) for text in own for t in range(len(video))] for video, own in zip(videos, texts, strict=True)
        ]
        if self._apart:
            found = [self._word_passes(video, own, words) for video, own in zip(videos, rows, strict=True)]
        else:
            starts = accumulate(map(len, videos), initial=0)
            joined = [(start + t, text) for start, own in zip(starts, rows, strict=False) for t, text in own]
            found = [self._word_passes(torch.cat(list(videos)), joined, words)]
        each = torch.cat(read_back(found)).split([len(own) for own in rows])
        logits = [part.view(len(own), -1, len(words)) for part, own in zip(each, texts, strict=True)]
        for own, part in zip(texts, logits, strict=True):
            _check_finite("a frame's score", part, own)
        return logits

    def _word_passes(self, patches: Tensor, rows: Sequence[tuple[int, str]], words: Sequence[str]) -> Tensor:
        """The same of N rows, each a frame's place and a prompt, on the device: patches [F, P, Dv] -> [N, words].

        Every frame passes the head once, however many prompts there are.
        """
        soft = self.localizer.head(patches)
        asked = [text for _, text in rows]
        lengths = [self._length(1, length) for length in self.backbone.lengths(asked)]
        parts = list(passes(lengths, self.backbone.tokens))
        seen = taken(soft, [[rows[row][0] for row in part] for part in parts])
        found = [
            self.localizer.word_logits(states[:, None], [asked[row] for row in part], words)
            for part, states in zip(parts, seen, strict=True)
        ]
        order = [row for part in parts for row in part]
        return next(taken(torch.cat(found), [sorted(range(len(rows)), key=order.__getitem__)]))

    @torch.no_grad()
    def option_logits(
        self, patches: Tensor, positions: Sequence[Sequence[int]], texts: Sequence[str], options: Sequence[int]
    ) -> list[Tensor]:
        """Answers of M questions about one video, each from its own keyframes.

        patches [T, P, Dv]; positions: of each question, its keyframes' rows in time order; options: their numbers.
        Returns the option logits of each question, [A].
        """
        alike: dict[tuple[int, int], list[int]] = {}  # questions of the same shape share a pass
        for m, row in enumerate(positions):
            alike.setdefault((len(row), options[m]), []).append(m)
        parts = []
        for (frames, number), members in alike.items():
            lengths = [self._length(frames, text) for text in self.backbone.lengths([texts[m] for m in members])]
            parts += [([members[i] for i in part], frames, number) for part in passes(lengths, self.backbone.tokens)]
        # only frames that somebody chose pass the Answerer's head, each of them once
        needed = sorted({position for row in positions for position in row})
        place = {position: i for i, position in enumerate(needed)}
        places = [[place[position] for m in part for position in positions[m]] for part, _, _ in parts]
        first, *rows = uploaded([needed, *places], patches.device)
        soft = self.answerer.head(patches[first])
        found = [
            self.answerer.option_logits(soft[row].unflatten(0, (-1, frames)), [texts[m] for m in part], number)
            for (part, frames, number), row in zip(parts, rows, strict=True)
        ]
        out: list[Tensor] = [torch.empty(0)] * len(texts)
        for (part, _, _), logits in zip(parts, read_back(found), strict=True):
            _check_finite("an option's logit", logits, [texts[m] for m in part])
            for m, row in zip(part, logits, strict=True):
                out[m] = row
        return out

    @torch.no_grad()
    def single_frame_logits(
        self,
        patches: Tensor,
        texts: Sequence[str],
        options: Sequence[int],
        positions: Sequence[Sequence[int]] | None = None,
    ) -> list[Tensor]:
        """Answers of M questions from each of K frames alone: patches [T, P, Dv] -> of each question [K, A].

        positions   of each question, its K frames; all T, if None
        """
        seen = [tuple(row) for row in positions or [range(len(patches))] * len(texts)]
        different = list(dict.fromkeys(seen))
        soft = dict(zip(different, map(self.answerer.head, taken(patches, different)), strict=True))
        return self.frame_logits(
            [soft[row] for row in seen],
            [[text] * len(row) for text, row in zip(texts, seen, strict=True)],
            [[number] * len(row) for number, row in zip(options, seen, strict=True)],
        )

    @torch.no_grad()
    def frame_logits(
        self,
        soft: Sequence[Tensor],
        texts: Sequence[Sequence[str]],
        options: Sequence[Sequence[int]],
        decoding: AnswerDecoding | None = None,
    ) -> list[Tensor]:
        """Answers of groups of N rows, of one frame and one question each: [N, Q, Dl] of each group -> [N, A] of each.

        What the reverse chain asks the frozen Answerer (paper, section 3.3 and figure 3, right). Rows of a group share
        passes; behind a row's options stands -inf.
        """
        parts, found = [], []
        for group, (states, asked, numbers) in enumerate(zip(soft, texts, options, strict=True)):
            own = list(self._blocks(numbers))
            for (part, number), seen in zip(own, taken(states, [part for part, _ in own]), strict=True):
                prompts = [asked[row] for row in part]
                found.append(self.answerer.option_logits(seen[:, None], prompts, number, False, decoding))
                parts.append((group, part, prompts))
        out = [torch.full((len(row), max(row)), -torch.inf, dtype=wide(self.backbone.dtype)) for row in options]
        for (group, part, prompts), logits in zip(parts, read_back(found), strict=True):
            _check_finite("an option's logit", logits, prompts)
            out[group][part, : logits.shape[1]] = logits
        return out

    def _blocks(self, options: Sequence[int]) -> Iterator[tuple[list[int], int]]:
        """Rows that share a pass, and how many options each of them has."""
        alike: dict[int, list[int]] = {}
        for row, number in enumerate(options):
            alike.setdefault(number, []).append(row)
        for number, members in alike.items():
            for start in range(0, len(members), self.rows):
                yield members[start : start + self.rows], number


def _check_finite(what: str, values: Tensor, texts: Sequence[str]) -> None:
    """UserError where the host's results of a prompt, [N, ...] for N texts, hold NaN or infinity."""
    finite = values.isfinite().flatten(1).all(1)
    if not finite.all():
        raise UserError(
            f"{what} is NaN or infinite for the prompt {texts[finite.tolist().index(False)]!r}; "
            "run the model in float32 or bfloat16 (float16 overflows in T5)"
        )
