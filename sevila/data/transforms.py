"""What happens to a decoded frame before it travels to the model: resize and the training crop, uint8 as it is.

Frames are resized straight to S x S, aspect lost, by FFmpeg's swscale with its bilinear filter, which widens as it
shrinks; decord, with which the official code reads videos, resizes by the same filter. The crop draws its random
numbers in the order torchvision's RandomResizedCrop does, so that one seed gives one box in both; torchvision itself
is not needed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from torch import Tensor
from torch.nn import functional

from sevila.errors import UserError

# Exact arithmetic gives the same bytes on every processor.
RESIZE = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT

CROP_AREA = (0.5, 1.0)  # share of the picture's area that a crop keeps
CROP_RATIO = (3 / 4, 4 / 3)  # width : height of a crop
CROP_TRIES = 10  # boxes drawn before the central one is taken

Size = tuple[int, int]  # height and width in pixels
Box = tuple[int, int, int, int]  # top, left, height, width in pixels


def to_tensor(frame: VideoFrame, size: Size, reformatter: VideoReformatter) -> Tensor:
    """uint8 RGB [3, H, W] of this size, turned and flipped as the file asks.

    One reformatter serves all frames of a video: it keeps the set-up of the resize.
    """
    turn = orientation(frame)
    height, width = size if turn[0, 0] else size[::-1]  # as the file has it, before it is turned
    rgb = reformatter.reformat(
        frame, width, height, "rgb24", interpolation=RESIZE, dst_color_range=ColorRange.JPEG, threads=1
    )
    return torch.from_numpy(np.ascontiguousarray(_turned(rgb.to_ndarray(), turn).transpose(2, 0, 1)))


def fitted(size: Size, longest: int) -> Size:
    """The size brought to a longer side of at most `longest` pixels; never enlarged."""
    scale = min(longest / max(size), 1)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def shown_size(frame: VideoFrame) -> Size:
    """Height and width of the frame once it is turned."""
    on_its_side = orientation(frame)[0, 0] == 0
    return (frame.width, frame.height) if on_its_side else (frame.height, frame.width)


def orientation(frame: VideoFrame) -> np.ndarray:
    """The file's display matrix as [[a, b], [c, d]] of -1, 0, 1: pixel (x, y) is shown at (ax + cy, bx + dy).

    Raises UserError for a video that is to be shown aslant.
    """
    side_data: Any = frame.side_data.get("DISPLAYMATRIX")
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
    """Apply an `orientation` to [H, W, 3]."""
    (a, b), (c, d) = turn.tolist()
    if a == 0:  # x becomes the shown y, and y the shown x
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[::d, ::a]


def random_box(height: int, width: int, generator: torch.Generator) -> Box:
    """A box of random area (`CROP_AREA`) and shape (`CROP_RATIO`) somewhere in a height x width picture."""

    def uniform(low: float, high: float) -> float:
        return torch.empty(1).uniform_(low, high, generator=generator).item()

    def below(limit: int) -> int:
        return int(torch.randint(0, limit, (1,), generator=generator).item())

    low, high = torch.log(torch.tensor(CROP_RATIO)).tolist()  # float32 logarithms, as torchvision's
    for _ in range(CROP_TRIES):
        area = height * width * uniform(*CROP_AREA)
        ratio = torch.exp(torch.tensor(uniform(low, high))).item()
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = below(height - box_height + 1)
            return top, below(width - box_width + 1), box_height, box_width
    return _central_box(height, width)


def _central_box(height: int, width: int) -> Box:
    """The largest box in the middle whose shape lies within `CROP_RATIO`."""
    narrowest, widest = CROP_RATIO
    box_height, box_width = height, width
    if width / height < narrowest:
        box_height = round(width / narrowest)
    elif width / height > widest:
        box_width = round(height * widest)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def crop_and_resize(pixels: Tensor, box: Box, size: int) -> Tensor:
    """Cut `box` out of all frames and bring it to size x size: bicubic, no antialiasing, truncated.

    pixels   uint8 [T, 3, H, W]
    Returns uint8 [T, 3, size, size]. Bicubic overshoot is clamped to 0..255 (the official code lets it wrap).
    """
    top, left, height, width = box
    part = pixels[..., top : top + height, left : left + width].to(torch.float32)
    resized = functional.interpolate(part, size=(size, size), mode="bicubic", align_corners=False)
    return resized.clamp(0, 255).to(torch.uint8)


def training_transform(pixels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """uint8 [T, 3, H, W] -> uint8 [T, 3, size, size]: one random crop for all frames."""
    box = random_box(pixels.shape[-2], pixels.shape[-1], generator)
    return crop_and_resize(pixels, box, size)


def transform_digest(size: int, normalize: Callable[[Tensor], Tensor]) -> str:
    """What all transforms do to pictures of size x size, as sixteen hex digits: those of a test picture, resized,
    cropped and normalised, so that no change of them goes unnoticed.

    normalize   the model's, uint8 [T, 3, H, W] -> float32 of the same shape
    """
    planes = VideoFrame.from_ndarray(np.arange(96 * 64, dtype=np.uint16).reshape(96, 64).astype(np.uint8), "yuv420p")
    picture = to_tensor(planes, (size, size), VideoReformatter())[None]
    crop = training_transform(picture, size, torch.Generator().manual_seed(0))
    ready = normalize(torch.cat([picture, crop]))
    return hashlib.sha256(ready.numpy().tobytes()).hexdigest()[:16]
