"""From a decoded frame, in any pixel format and size, to a square RGB tensor.

Frames are resized straight to S x S, aspect lost, by FFmpeg's swscale with its bilinear filter, which widens
as it shrinks. decord, with which the official code reads videos, resizes by the same filter.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from torch import Tensor

from sevila.errors import UserError

# Exact arithmetic gives the same bytes on every processor.
RESIZE = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def to_tensor(frame: VideoFrame, size: int, reformatter: VideoReformatter) -> Tensor:
    """uint8 RGB [3, size, size], turned and flipped as the file asks.

    One reformatter serves all frames of a video: it keeps the set-up of the resize.
    """
    turn = orientation(frame)
    rgb = reformatter.reformat(
        frame, size, size, "rgb24", interpolation=RESIZE, dst_color_range=ColorRange.JPEG, threads=1
    )
    pixels = _turned(rgb.to_ndarray(), turn)  # a square: turning it after the resize is the same
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def shown_size(frame: VideoFrame) -> tuple[int, int]:
    """Height and width of the frame once it is turned."""
    on_its_side = orientation(frame)[0, 0] == 0
    return (frame.width, frame.height) if on_its_side else (frame.height, frame.width)


def orientation(frame: VideoFrame) -> np.ndarray:
    """The file's display matrix as [[a, b], [c, d]] of -1, 0, 1: pixel (x, y) is shown at (ax + cy, bx + dy).

    Raises UserError for a video that is to be shown aslant.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return np.eye(2, dtype=int)
    matrix = np.frombuffer(bytes(side_data), dtype=np.int32).reshape(3, 3)[:2, :2].astype(float)
    unit = matrix / np.maximum(np.hypot(matrix[:, 0], matrix[:, 1])[:, None], 1)  # rows of length 1
    turn = np.rint(unit).astype(int)
    if np.abs(unit - turn).max() > 0.02 or not np.array_equal(turn @ turn.T, np.eye(2)):
        degrees = round(math.degrees(math.atan2(unit[0, 1], unit[0, 0])))
        raise UserError(f"the video is to be shown turned by {degrees} degrees: re-encode it upright")
    return turn


def _turned(pixels: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Apply an `orientation` to [S, S, 3]."""
    (a, b), (c, d) = turn.tolist()
    if a == 0:  # x becomes the shown y, and y the shown x
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[::d, ::a]
