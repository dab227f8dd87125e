"""SeViLA: two heads over one backbone, and the forward chain (paper, section 3.2).

model = SeViLA.load()                            # the tiny backbone; or SeViLA.load("Salesforce/blip2-flan-t5-xl")
answer = model.answer("video.mp4", "what does the red star hold?", ["a cup", "a key"], k=2)
print(answer.text, answer.probabilities, answer.keyframes)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import torch
from torch import Tensor, nn

from sevila.errors import UserError
from sevila.model import backbone as backbones
from sevila.model.answerer import Answerer
from sevila.model.backbone import Backbone
from sevila.model.head import Head
from sevila.model.localizer import Localizer
from sevila.model.passes import passes
from sevila.model.precision import fast_dtype, warn_if_slow, wide
from sevila.model.prompts import Prompts, QuestionPrompts, letters
from sevila.model.scoring import Scoring


@dataclass(frozen=True)
class ScoredFrame:
    """A sampled frame: its number in the video, its time in seconds, the Localizer's raw "yes" logit."""

    index: int
    time: float
    score: float | None


@dataclass(frozen=True)
class Answer:
    """`option` counts from 0; `probabilities` are the softmax of the option logits; `frames` are all that were seen."""

    option: int
    text: str
    probabilities: tuple[float, ...]
    keyframes: tuple[ScoredFrame, ...]
    frames: tuple[ScoredFrame, ...]


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

    @classmethod
    def load(
        cls,
        source: str = backbones.TINY,
        localizer: str = "zeroshot",
        answerer: str = "zeroshot",
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> SeViLA:
        """A backbone by Hub id, folder or `tiny`, and its heads by run folder, head file, Hub id or `zeroshot`.

        dtype   of the backbone; None: bfloat16 where the device has units for it, else float32
        """
        from sevila.weights.heads import load_head

        dtype = dtype or fast_dtype(device)
        warn_if_slow(dtype, device)
        backbone = backbones.load(source, device, dtype)
        return cls(backbone, load_head(localizer, "localizer", backbone), load_head(answerer, "answerer", backbone))

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
        return out.view(len(texts), len(soft), len(words))

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
        return out

    @torch.no_grad()
    def answer(
        self,
        video: str | PathLike[str],
        question: str,
        options: Sequence[str],
        k: int = 4,
        n_frames: int = 32,
    ) -> Answer:
        """Answer a question about a video file from its k best frames among n.

        Raises UserError for an unreadable video, fewer than two options, or k not from 1 to the number of frames.
        """
        from sevila.data.sampling import uniform_indices
        from sevila.data.transforms import evaluation_transform
        from sevila.data.video import VideoReader

        letters(len(options))
        reader = VideoReader(video)
        indices = uniform_indices(reader.length, reader.fps, n_frames)
        if not 1 <= k <= len(indices):
            raise UserError(f"k={k}: {len(indices)} frames were sampled from {video}; choose k from 1 to that")
        frames = reader.read(indices, self.backbone.image_size)
        patches = self.backbone.encode(evaluation_transform(frames.pixels))
        scores = self.relevance(patches, [self.prompts.localize(question, options)])[0]
        best = sorted(scores.argsort(descending=True, stable=True)[:k].tolist())
        logits = self.option_logits(patches, [best], [self.prompts.answer(question, options)], [len(options)])[0]
        seen = tuple(
            ScoredFrame(index, time, score)
            for index, time, score in zip(frames.indices, frames.times, scores.tolist(), strict=True)
        )
        option = int(logits.argmax())
        chances = tuple(logits.softmax(-1).tolist())
        return Answer(option, options[option], chances, tuple(seen[i] for i in best), seen)
