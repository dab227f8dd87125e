"""SeViLA from files: heads by name, videos by path.

model = SeViLA.load()                            # the tiny backbone; or SeViLA.load("Salesforce/blip2-flan-t5-xl")
answer = model.answer("video.mp4", "what does the red star hold?", ["a cup", "a key"], k=2)
print(answer.text, answer.probabilities, answer.keyframes)
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import torch

from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.architecture import TINY
from sevila.checkpoints.heads import load_head
from sevila.data.sampling import uniform_indices
from sevila.data.transforms import evaluation_transform
from sevila.data.video import VideoReader
from sevila.errors import UserError
from sevila.files import home
from sevila.model import sevila as core
from sevila.model.precision import fast_dtype, warn_if_slow
from sevila.model.prompts import letters
from sevila.model.sevila import Answer, ScoredFrame


class SeViLA(core.SeViLA):
    """The Localizer chooses frames, the Answerer answers from them."""

    @classmethod
    def load(
        cls,
        source: str = TINY,
        localizer: str = "zeroshot",
        answerer: str = "zeroshot",
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> SeViLA:
        """A backbone by Hub id, folder or `tiny`, and its heads by run folder, head file, Hub id or `zeroshot`.

        dtype   of the backbone; None: bfloat16 where the device has units for it, else float32
        """
        dtype = dtype or fast_dtype(device)
        warn_if_slow(dtype, device)
        backbone = backbones.load(home(source), device, dtype)
        heads = {"localizer": home(localizer), "answerer": home(answerer)}
        return cls(backbone, *(load_head(place, role, backbone) for role, place in heads.items()))

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
        letters(len(options))
        reader = VideoReader(Path(video).expanduser())
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
