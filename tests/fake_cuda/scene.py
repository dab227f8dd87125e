"""What the paths work on: a model of a size, films, questions and moment queries about them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from fake_cuda.device import FakeCuda
from sevila.checkpoints import backbone as backbones
from sevila.checkpoints import heads
from sevila.checkpoints.architecture import TINY, TINY_FOLDER
from sevila.data.records import Moment, Question
from sevila.data.video import CachedVideos
from sevila.model.sevila import SeViLA
from sevila.training.device import make_accelerator

XL = "Salesforce/blip2-flan-t5-xl"  # by name alone: sizes are known, nothing is fetched
FPS = 4
LONG, SHORT = 40, 3  # frames of the two films; the short one makes padding


class Shapes(backbones.Random):
    """A source's sizes, and no weights."""

    def fill(self, module: nn.Module, what: str, remedy: str) -> None:
        return None


def film(path: Path, frames: int) -> str:
    """A grey film of so many small pictures."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = np.full((48, 64, 3), 5 * number % 256, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def ask(number: int, video: str, longest: bool = False) -> Question:
    """A question whose answer is the last option, as the invented logits have it.

    longest   of at least as many tokens as a text may have; else shorter than that, of three lengths
    """
    options = ("the star", "a ring", "the cross", "a circle", "red")
    if longest:
        options = tuple(f"{option} turns around in front of the white square" for option in options)
    text = "why did the man in the white shirt turn around at the end?"
    return Question(f"q{number}", video, text[4 * (number % 3) :], options, answer=4, windows=((0.0, 2.0),))


def query(number: int, video: str) -> Moment:
    """A sentence of one of three lengths, true of the first two seconds."""
    text = "a man in a white shirt turns around and looks at his dog"
    return Moment(f"m{number}", video, text[3 * (number % 3) :], LONG / FPS, ((0.0, 2.0),))


@dataclass(frozen=True)
class Scene:
    """Everything that a path needs, with the fake device switched on.

    padding     whether a batch has a short film and texts of several lengths; else all are as long as they may be
    questions   about the long film
    rows        of a training batch, the last one about the short film
    moments     the same as moment queries
    """

    gpu: FakeCuda
    folder: Path
    source: str = XL
    padding: bool = True

    @classmethod
    def prepared(cls, gpu: FakeCuda, folder: Path, source: str = XL, padding: bool = True) -> Scene:
        film(folder / "long.mp4", LONG)
        film(folder / "short.mp4", SHORT)
        return cls(gpu, folder, source, padding)

    @property
    def long(self) -> str:
        return str(self.folder / "long.mp4")

    def questions(self, number: int) -> list[Question]:
        return [ask(i, self.long, not self.padding) for i in range(number)]

    def rows(self, number: int) -> list[Question]:
        return [ask(i, video, not self.padding) for i, video in enumerate(self._films(number))]

    def moments(self, number: int) -> list[Moment]:
        return [query(i, video) for i, video in enumerate(self._films(number))]

    def _films(self, number: int) -> list[str]:
        films = [self.long] * number
        if self.padding and number > 1:
            films[-1] = str(self.folder / "short.mp4")
        return films

    def model(self, checkpointing: bool = False, **options: Any) -> SeViLA:
        """The model on the fake device in bfloat16, its heads as a run loads them."""
        tokenizer = None if self.source == TINY else str(TINY_FOLDER)
        backbone = backbones.load(
            self.source,
            "cuda",
            torch.bfloat16,
            weights=Shapes(),
            tokenizer=tokenizer,
            checkpointing=checkpointing,
            **options,
        )
        backbone.__dict__["fingerprint"] = "of no weights"
        model = SeViLA(backbone, *(heads.load_head("zeroshot", role, backbone) for role in ("localizer", "answerer")))
        model.requires_grad_(False)
        self.gpu.ledger.learn_layers(model, GradientCheckpointingLayer)
        return model

    def videos(self, model: SeViLA) -> CachedVideos:
        return CachedVideos(model.backbone.image_size)

    @property
    def accelerator(self) -> Accelerator:
        """As a training run makes it, in bfloat16, on the device that this torch does not know."""
        made = make_accelerator("cpu", "bf16")
        made.state.device = torch.device("cuda:0")
        return made
