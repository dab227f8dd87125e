"""A video as a folder of pictures, as TVQA hands them out: VIDEO/00001.jpg, VIDEO/00002.jpg, ...

The pictures are the video's frames at a constant rate, jpg or png, named by consecutive numbers (a common prefix
is allowed: frame_0001.png; files that begin with a dot are none). The rate is TVQA's 3 a second, unless a file fps.txt
in the folder or in the one above it states another.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps
from torch import Tensor

from sevila.data.folders import picture_files, rate_file
from sevila.data.frame_table import FrameTable
from sevila.data.transforms import Size, shown_size, to_tensor
from sevila.errors import UserError
from sevila.files import read_text

TVQA_RATE = Fraction(3)  # pictures a second
_RATE = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20}|/[0-9]{1,20})?")
EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # Pillow's modes; "1" has one
SIXTEEN_BITS = {"I;16", "I;16B", "I;16L", "I"}  # grey; Pillow itself brings colours of 16 bits down to 8


class FrameFolder:
    """The pictures of one folder. UserError, one line that names the folder, where there are none or some lack."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rate, files = _rate(path), picture_files(path)
        places, size = array("q", range(len(files))), shown_size(_picture(files[0]))
        self.table = FrameTable(places, array("q"), 1 / rate, rate, Fraction(1), counted=True, size=size)

    def decode(self, wanted: Sequence[int], size: Size) -> dict[int, Tensor]:
        """Frame number -> uint8 [3, H, W] of those wanted."""
        files, reformatter = picture_files(self.path), VideoReformatter()
        return {index: to_tensor(_picture(files[index]), size, reformatter) for index in wanted}


def _picture(file: Path) -> VideoFrame:
    try:
        with Image.open(file, formats=("JPEG", "PNG")) as image:
            upright = _eight_bits(file, ImageOps.exif_transpose(image))
            return VideoFrame.from_ndarray(np.asarray(upright.convert("RGB")), format="rgb24")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} is no whole jpg or png picture: get it again") from error


def _eight_bits(file: Path, image: Image.Image) -> Image.Image:
    """The picture with 8 bits a channel; of 16 the upper ones, as Pillow reads colours."""
    if image.mode in SIXTEEN_BITS:
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode not in EIGHT_BITS:
        raise UserError(f"{file} is a picture of the kind {image.mode}, which is not read: save it as RGB")
    return image


def _rate(folder: Path) -> Fraction:
    file = rate_file(folder)
    if file is None:
        return TVQA_RATE
    text = read_text(file).strip()
    try:
        rate = Fraction(text) if _RATE.fullmatch(text) else Fraction(0)
    except ZeroDivisionError:
        rate = Fraction(0)
    if rate == 0:
        raise UserError(f"{file}: expected the frames a second, as in 3 or 30000/1001, found {text[:80]!r}")
    return rate
