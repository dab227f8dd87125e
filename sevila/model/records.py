"""What the model is given and what it gives: encoded videos, questions, keyframes, answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor


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
        """The option of the highest logit [A]; they are the host's."""
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
