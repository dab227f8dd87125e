"""One question about one video: what was asked, answered and found, and from which frames.

Example(Timeline(...), images) is a block of a page; `figures.draw_example` draws the same as a PNG.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from sevila.data.records import Window

CLOSE = 5.0  # percent of the width, below which numbers would touch
PLAYED = (".mp4", ".m4v", ".webm", ".mov", ".ogv")  # what browsers may open


@dataclass(frozen=True)
class Axis:
    """A range of numbers, low < high, as places from 0 to 100 percent of a drawing's side."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float], span: float = 0.0, within: tuple[float, float] | None = None) -> Axis:
        """The range of the values with a rim, at least `span` wide, and inside `within` where that is given."""
        known = list(values)
        low, high = min(known), max(known)
        rim = max(0.08 * (high - low), (span - (high - low)) / 2, 1e-3 * max(abs(low), abs(high))) or 0.5
        low, high = low - rim, high + rim
        if within is not None:  # what would stand out on one side is given to the other
            width = min(high - low, within[1] - within[0])
            low = min(max(low, within[0]), within[1] - width)
            high = low + width
        return cls(low, high)

    def at(self, value: float) -> float:
        """The place of a value, from low (0) to high (100)."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def ticks(self, most: int = 5, whole: bool = False) -> list[float]:
        """At most `most` + 1 round numbers in the range, whole ones if so asked."""
        rough = (self.high - self.low) / most
        power = 10.0 ** floor(log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
        step = max(1.0, step) if whole else step
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


@dataclass(frozen=True)
class Timeline:
    """A question, its answer, and the frames of its video.

    options         none for an open question or a query, and then no prediction
    prediction      index of the chosen option; answer: of the right one, None where it is not known
    probabilities   of the options, each 0..1
    times           of all T sampled frames, in seconds from the video's start, in order
    scores          relevance of the T frames; None where frames were chosen without scores
    keyframes       positions 0..T-1 of the K chosen frames
    windows         the true moments in seconds; None where they are not known
    duration        of the video, in seconds
    label           where it comes from, such as the video's name; "" shows nothing
    found           the predicted moments in seconds, the best one first
    video           the file that a click on a frame plays, if any

    ValueError where the lengths do not fit each other.
    """

    question: str
    options: Sequence[str]
    prediction: int | None
    answer: int | None
    probabilities: Sequence[float]
    times: Sequence[float]
    scores: Sequence[float] | None
    keyframes: Sequence[int]
    windows: Sequence[Window] | None
    duration: float
    label: str = ""
    found: Sequence[Window] = ()
    video: Path | None = None

    def __post_init__(self) -> None:
        if len(self.probabilities) != len(self.options):
            raise ValueError(f"{len(self.probabilities)} probabilities of {len(self.options)} options")
        if self.scores is not None and len(self.scores) != len(self.times):
            raise ValueError(f"{len(self.scores)} scores of {len(self.times)} frames")
        if (self.prediction is None) != (not self.options):
            raise ValueError(f"prediction {self.prediction} of {len(self.options)} options")
        for name, index, size in (
            ("prediction", self.prediction, len(self.options)),
            ("answer", self.answer, len(self.options)),
            *(("keyframe", position, len(self.times)) for position in self.keyframes),
        ):
            if index is not None and not 0 <= index < size:
                raise ValueError(f"{name} {index} is not among the {size}")

    @property
    def verdict(self) -> str:
        """The answer in words, and whether it is right where that is known; "" where there are no options."""
        if self.prediction is None:
            return ""
        answered = f"Answered {letter(self.prediction)}"
        if self.answer is None:
            return answered
        if self.answer == self.prediction:
            return f"{answered}: right"
        return f"{answered}: wrong, the right one is {letter(self.answer)}"

    @property
    def outcome(self) -> str:
        """right, wrong, or open where that is not known."""
        if self.answer is None:
            return "open"
        return "right" if self.answer == self.prediction else "wrong"

    def sign(self, option: int) -> str:
        """The mark beside an option."""
        if option == self.answer:
            return "✓"
        if option == self.prediction:
            return "▸" if self.answer is None else "✗"
        return ""

    def when(self, position: int) -> str:
        """The time of a sampled frame, as fine as the video is short."""
        return f"{self.times[position]:.{2 if self.duration < 60 else 1}f} s"

    @property
    def seconds(self) -> Axis:
        """The part of the video that is shown: all of it, or what lies around the frames of a clip."""
        times, windows = self.times, (*(self.windows or ()), *self.found)
        step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else self.duration
        start = min([times[0] - step, *(window[0] for window in windows)])
        end = max([times[-1] + step, *(window[1] for window in windows)])
        start, last = max(0.0, start), max(self.duration, times[-1])
        return Axis(start, max(min(end, last), start + 1e-3))

    @property
    def relevance(self) -> Axis | None:
        """The range of the scores; None without scores."""
        return None if self.scores is None else Axis.around(self.scores)

    @property
    def places(self) -> list[tuple[float, float]]:
        """Where each sampled frame stands, in percent from the left and from below; halfway up without scores."""
        up = self.relevance
        heights = [50.0] * len(self.times) if up is None or self.scores is None else map(up.at, self.scores)
        return list(zip(map(self.seconds.at, self.times), heights, strict=True))

    @property
    def labels(self) -> Iterator[tuple[float, float, bool]]:
        """Places of the keyframes' numbers, in time order; every second one is lifted where they are close."""
        last, lifted = -100.0, False
        for x, y in (self.places[i] for i in sorted(self.keyframes)):
            lifted = not lifted and x - last < CLOSE
            yield x, y, lifted
            last = x

    @property
    def described(self) -> str:
        """In words what the drawing shows."""
        parts = [self.question]
        if self.options:
            chances = zip(self.options, self.probabilities, strict=True)
            options = "; ".join(f"{letter(i)}: {text} ({100 * p:.1f} %)" for i, (text, p) in enumerate(chances))
            parts.append(f"Options: {options}. {self.verdict}.")
        if self.found:
            parts.append(f"Found: {', '.join(map(window_text, self.found[:1]))}.")
        if self.keyframes:
            parts.append(f"Keyframes at {', '.join(self.when(i) for i in sorted(self.keyframes))}.")
        return " ".join(parts)


@dataclass(frozen=True)
class Example:
    """A timeline with the pictures of its keyframes.

    images   of the K keyframes, uint8 [H, W, 3] each, in the order of `timeline.keyframes`
    asks     whether the question is shown; False where the page has said it

    ValueError where the images are not those.
    """

    timeline: Timeline
    images: Sequence[np.ndarray]
    asks: bool = True
    template: ClassVar[str] = "timeline.html.j2"

    def __post_init__(self) -> None:
        if len(self.images) != len(self.timeline.keyframes):
            raise ValueError(f"{len(self.images)} images of {len(self.timeline.keyframes)} keyframes")
        for image in self.images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")

    @property
    def in_order(self) -> list[tuple[int, np.ndarray]]:
        """Position and image [H, W, 3] of every keyframe, in time order."""
        return sorted(zip(self.timeline.keyframes, self.images, strict=True), key=lambda pair: pair[0])

    def pictures(self) -> Iterator[tuple[int, str, int, int]]:
        """Of every keyframe, in time order: its position, its image as an address, width and height."""
        for position, image in self.in_order:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, format="JPEG", quality=90, subsampling=0)
            data = base64.b64encode(buffer.getvalue()).decode("ascii")
            yield position, f"data:image/jpeg;base64,{data}", image.shape[1], image.shape[0]

    @property
    def playable(self) -> Path | None:
        """The video, where a browser may play it."""
        video = self.timeline.video
        return video if video is not None and video.suffix.lower() in PLAYED else None


def letter(option: int) -> str:
    return chr(ord("A") + option)


def window_text(window: Sequence[float]) -> str:
    return f"{window[0]:.1f} to {window[1]:.1f} s"
