"""Decode a video, a file or a folder of pictures, at given frame numbers, exact to the frame."""

from __future__ import annotations

import os
import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps
from torch import Tensor

from sevila.data.decoding import PyAv
from sevila.data.folders import picture_files, rate_file
from sevila.data.frame_table import FrameTable
from sevila.data.transforms import Size, fitted, shown_size, to_tensor
from sevila.errors import UserError
from sevila.files import read_text

DEFAULT_CACHE_BYTES = 256 * 2**20  # 1,783 frames of 224 x 224
KNOWN_VIDEOS = 4096  # frame tables that `CachedVideos` keeps, 8 bytes a frame


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded frames.

    pixels    uint8 RGB [T, 3, S, S]
    indices   T frame numbers, in the order shown, from 0
    times     T seconds since the first frame
    """

    pixels: Tensor
    indices: tuple[int, ...]
    times: tuple[float, ...]


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video without decoding it.

    length          in frames
    fps             the stream's average rate; where frames are not evenly spaced by it, length / duration
    width, height   as shown
    duration        in seconds
    times           seconds of each frame since the first where they are not evenly spaced, else None
    """

    length: int
    fps: float
    width: int
    height: int
    duration: float
    times: tuple[float, ...] | None = None


class Source(Protocol):
    """The frames of one video."""

    table: FrameTable

    def decode(self, wanted: Sequence[int], size: Size) -> dict[int, Tensor]:
        """Frame number -> uint8 RGB [3, H, W], for ascending numbers; without those that do not decode."""
        ...


class Decoder(Protocol):
    """Opens video files. Decoders can be pickled: DataLoader workers get them."""

    def open(self, path: Path) -> Source:
        """UserError, one line that names the file, where it is missing, empty, cut off, damaged, or no video."""
        ...


class VideoReader:
    """One video. It keeps the table of the video's frames and opens the file anew for each reading.

    decoder   of files; a folder of pictures needs none

    Raises UserError, one line that names the file, where it is missing, empty, cut off, damaged, or no video.
    """

    def __init__(self, path: str | Path, decoder: Decoder | None = None) -> None:
        self.path = Path(path)
        self._source = FrameFolder(self.path) if os.path.isdir(self.path) else (decoder or PyAv()).open(self.path)
        self._table = self._source.table
        height, width = self._table.size
        length, fps = len(self._table.stamps), float(self._table.rate)
        times = None if self._table.even else tuple(map(self._table.time, range(length)))
        self.info = VideoInfo(length, fps, width, height, self._table.duration, times)

    @property
    def length(self) -> int:
        """Frames that can be shown."""
        return self.info.length

    @property
    def fps(self) -> float:
        """Frames a second, as `VideoInfo` says. Where the rate varies, `times` tells when a frame is shown."""
        return self.info.fps

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds of each frame since the first."""
        return tuple(self._table.time(index) for index in range(self.length))

    def read(self, indices: Sequence[int], size: int) -> Frames:
        """The frames at these numbers, in the order given (twice where given twice), at size x size.

        UserError for a number that the video does not have, or a frame that does not decode.
        """
        return self.gather(indices, size, self.decode(indices, size))

    def pictures(self, indices: Sequence[int], longest: int) -> Tensor:
        """The frames at these numbers as people see them, in the video's own shape: uint8 RGB [T, 3, H, W].

        The longer side has at most `longest` pixels, and never more than in the file. UserError as `read`.
        """
        decoded = self._decode(indices, fitted(self._table.size, longest))
        return torch.stack([decoded[index] for index in indices])

    def decode(self, indices: Iterable[int], size: int) -> dict[int, Tensor]:
        """Frame number -> uint8 [3, size, size]. Decodes what these frames need, converts only them.

        UserError as `read`.
        """
        return self._decode(indices, (size, size))

    def _decode(self, indices: Iterable[int], size: Size) -> dict[int, Tensor]:
        wanted = sorted(set(indices))
        for index in wanted:
            if not 0 <= index < self.length:
                raise UserError(f"video {self.path} has no frame {index}: it has {self.length}, counted from 0")
        found = self._source.decode(wanted, size) if wanted else {}
        if len(found) < len(wanted):
            lost = min(set(wanted) - set(found))
            raise UserError(f"frame {lost} of video {self.path} cannot be decoded: the file is damaged, get it again")
        return found

    def gather(self, indices: Sequence[int], size: int, decoded: Mapping[int, Tensor]) -> Frames:
        """Put decoded frames, uint8 [3, size, size] by number, in the order of `indices`."""
        pixels = torch.empty((len(indices), 3, size, size), dtype=torch.uint8)
        for row, index in enumerate(indices):
            pixels[row] = decoded[index]
        times = tuple(self._table.time(index) for index in indices)
        return Frames(pixels, tuple(int(index) for index in indices), times)


def probe(path: str | Path) -> VideoInfo:
    """Frames, rate, size and seconds of a video file. UserError as `VideoReader`."""
    return VideoReader(path).info


class FrameCache:
    """Tensors by key, at most `capacity` bytes of them: the least recently used go first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = 0  # bytes
        self._items: OrderedDict[tuple, Tensor] = OrderedDict()

    def get(self, key: tuple) -> Tensor | None:
        """A frame, uint8 [3, S, S], where it is there."""
        if key not in self._items:
            return None
        self._items.move_to_end(key)
        return self._items[key]

    def put(self, key: tuple, value: Tensor) -> None:
        """Keep a frame, uint8 [3, S, S]."""
        if key in self._items or value.nbytes > self.capacity:
            return
        self._items[key] = value
        self.held += value.nbytes
        while self.held > self.capacity:
            _, dropped = self._items.popitem(last=False)
            self.held -= dropped.nbytes

    def __len__(self) -> int:
        return len(self._items)


class CachedVideos:
    """Videos at one picture size, where a frame is decoded once however many questions ask about it.

    size          S: frames come out as [3, S, S]
    cache_bytes   for decoded frames. Every process (so every DataLoader worker) has a cache of its own
    decoder       of files
    known         tables of frames that are kept, of the videos seen last

    A file that changed on disk (by time or size) is read anew.
    """

    def __init__(
        self,
        size: int,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        decoder: Decoder | None = None,
        known: int = KNOWN_VIDEOS,
    ) -> None:
        self.size, self.cache_bytes, self.known = size, cache_bytes, known
        self.decoder = decoder or PyAv()
        self._start_empty()

    def info(self, path: str | Path) -> VideoInfo:
        """UserError as `VideoReader`."""
        return self.reader(path).info

    def reader(self, path: str | Path) -> VideoReader:
        """The one reader of a file. UserError as `VideoReader`."""
        return self._reader(Path(path))[1]

    def read(self, path: str | Path, indices: Sequence[int]) -> Frames:
        """Frames at these numbers, in the order given; decodes only those not in the cache.

        UserError as `VideoReader`.
        """
        version, reader = self._reader(Path(path))
        held = {index: self._frames.get((*version, index)) for index in indices}
        cached = {index: pixels for index, pixels in held.items() if pixels is not None}
        new = reader.decode((index for index in held if index not in cached), self.size)
        for index, pixels in new.items():
            self._frames.put((*version, index), pixels)
        return reader.gather(indices, self.size, {**cached, **new})

    def _reader(self, path: Path) -> tuple[tuple[str, int, int], VideoReader]:
        """The file's version (path, time, size) and its reader."""
        try:
            state = os.stat(path)
        except (OSError, ValueError) as error:  # also letters that no file system takes
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"video {path} cannot be opened ({reason}): check the path") from error
        version = (str(path), state.st_mtime_ns, state.st_size)
        if version not in self._readers:
            self._readers[version] = VideoReader(path, self.decoder)
        self._readers.move_to_end(version)
        if len(self._readers) > self.known:
            self._readers.popitem(last=False)
        return version, self._readers[version]

    def _start_empty(self) -> None:
        self._frames = FrameCache(self.cache_bytes)
        self._readers: OrderedDict[tuple[str, int, int], VideoReader] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # a worker starts with empty caches
        return {"size": self.size, "cache_bytes": self.cache_bytes, "decoder": self.decoder, "known": self.known}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_empty()


# -- a video as a folder of pictures ---


TVQA_RATE = Fraction(3)  # pictures a second
_RATE = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20}|/[0-9]{1,20})?")
EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # Pillow's modes; "1" has one
SIXTEEN_BITS = {"I;16", "I;16B", "I;16L", "I"}  # grey; Pillow itself brings colours of 16 bits down to 8


class FrameFolder:
    """A video as TVQA hands it out: VIDEO/00001.jpg, VIDEO/00002.jpg, ...

    The pictures are the video's frames at a constant rate, jpg or png, named by consecutive numbers (a common prefix
    is allowed: frame_0001.png; files that begin with a dot are none). The rate is TVQA's 3 a second, unless a file
    fps.txt in the folder or in the one above it states another. UserError, one line that names the folder, where there
    are no pictures or some lack.
    """

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
