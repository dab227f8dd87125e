"""Made videos in which every picture carries its own number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

WIDTH, HEIGHT, BITS = 96, 64, 8
MILLISECOND = Fraction(1, 1000)

Encode = Callable[..., Path]


def numbered(number: int) -> np.ndarray:
    """A picture [HEIGHT, WIDTH, 3] of 8 bars: the bits of a number, the highest first, white for 1."""
    bars = [255 * (number >> bit & 1) for bit in reversed(range(BITS))]
    row = np.repeat(np.array(bars, dtype=np.uint8), WIDTH // BITS)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).copy()


@pytest.fixture(scope="session")
def numbers() -> Callable[[torch.Tensor], list[int]]:
    """Reads the numbers back: uint8 [T, 3, S, S] -> T numbers."""

    def read(pixels: torch.Tensor) -> list[int]:
        size = pixels.shape[-1]
        centres = [(2 * bar + 1) * size // (2 * BITS) for bar in range(BITS)]
        bits = pixels[:, :, size // 2, :].float().mean(1)[:, centres] > 127
        return [int("".join(str(int(bit)) for bit in row), 2) for row in bits]

    return read


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """encode(name, pictures) writes a video and returns its path.

    pictures   how many numbered ones, or the pictures themselves
    stamps     milliseconds of each; 25 a second where not given
    """

    def write(
        name: str,
        pictures: int | Sequence[np.ndarray],
        stamps: Sequence[int] | None = None,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        rate: int = 25,
        clock: Fraction = MILLISECOND,
    ) -> Path:
        images = [numbered(number) for number in range(pictures)] if isinstance(pictures, int) else pictures
        path = tmp_path / name
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=rate, options=options or {})
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = pixel_format
            stream.codec_context.time_base = clock
            for place, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = round(place / (rate * clock)) if stamps is None else stamps[place]
                frame.time_base = clock
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write
