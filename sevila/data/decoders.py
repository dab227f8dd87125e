"""The decoders by the names that a configuration gives them: PyAV, or decord or torchcodec where they are installed.

All give the same frames for the same numbers: PyAV's table of a file's frames is the one that counts. A library that
numbers a file's frames differently is refused for that file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from sevila.data.decoding import PyAv
from sevila.data.frame_table import frame_table
from sevila.data.transforms import Size
from sevila.data.video import Decoder
from sevila.errors import UserError


class Library(Protocol):
    """A library that decodes."""

    name: ClassVar[str]

    def read(self, path: Path, wanted: Sequence[int], size: Size) -> tuple[int, list[float], Tensor]:
        """How many frames the file has; of those wanted the seconds since the first one, and uint8 RGB [T, 3, H, W].

        RuntimeError, ValueError or IndexError where it fails.
        """
        ...


class NumberedFile:
    """A file that a library decodes: its frames are numbered by its packets, whatever the library counts."""

    def __init__(self, path: Path, library: Library) -> None:
        self.path, self.library = path, library
        self.table = frame_table(path)

    def decode(self, wanted: Sequence[int], size: Size) -> dict[int, Tensor]:
        """Frame number -> uint8 [3, H, W]. UserError where the library counts other frames than PyAV, or fails."""
        try:
            length, times, pixels = self.library.read(self.path, wanted, size)
        except (RuntimeError, ValueError, IndexError) as error:
            raise self._refusal(error) from error
        if length != len(self.table.stamps):
            raise self._refusal(f"it counts {length} frames, not {len(self.table.stamps)}")
        for index, seconds in zip(wanted, times, strict=True):
            near = range(max(index - 1, 0), min(index + 2, length))
            if min(near, key=lambda other: abs(self.table.time(other) - seconds)) != index:
                raise self._refusal(f"its frame {index} is at {seconds:.3f} s, not at {self.table.time(index):.3f} s")
        return dict(zip(wanted, pixels, strict=True))

    def _refusal(self, reason: object) -> UserError:
        cause = " ".join(str(reason).split())[:200]
        return UserError(
            f"{self.library.name} does not read video {self.path} rightly ({cause}): use frames.decoder=pyav"
        )


@dataclass(frozen=True)
class Decord:
    """decord, with which the official code reads videos: `pip install decord`, or eva-decord on a Mac.

    threads   as `PyAv`'s. It resizes as PyAV does, rounding less carefully: a mean of up to 1 in 255 apart
    """

    threads: int = 0
    name: ClassVar[str] = "decord"

    def __post_init__(self) -> None:
        _decord()

    def open(self, path: Path) -> NumberedFile:
        return NumberedFile(path, self)

    def read(self, path: Path, wanted: Sequence[int], size: Size) -> tuple[int, list[float], Tensor]:
        """Frames in the file, seconds of those wanted, uint8 RGB [T, 3, H, W]."""
        (height, width), library = size, _decord()
        try:
            reader = library.VideoReader(str(path), width=width, height=height, num_threads=self.threads)
            starts = reader.get_frame_timestamp(np.array([0, *wanted]))[:, 0]
            pixels = torch.from_numpy(reader.get_batch(list(wanted)).asnumpy())
        except library.DECORDError as error:
            raise RuntimeError(str(error)) from error
        return len(reader), (starts[1:] - starts[0]).tolist(), pixels.permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class TorchCodec:
    """torchcodec: `pip install torchcodec`, and FFmpeg's shared libraries on the system.

    threads   as `PyAv`'s. It converts colours before it resizes: a mean of up to 3 in 255 apart from PyAV's
    """

    threads: int = 0
    name: ClassVar[str] = "torchcodec"

    def __post_init__(self) -> None:
        _torchcodec()

    def open(self, path: Path) -> NumberedFile:
        return NumberedFile(path, self)

    def read(self, path: Path, wanted: Sequence[int], size: Size) -> tuple[int, list[float], Tensor]:
        """Frames in the file, seconds of those wanted, uint8 RGB [T, 3, H, W]."""
        library = _torchcodec()
        reader = library.decoders.VideoDecoder(
            str(path),
            seek_mode="exact",  # "approximate" would be quicker and give wrong frames
            num_ffmpeg_threads=self.threads,
            transforms=[library.transforms.Resize(size)],
        )
        frames = reader.get_frames_at(list(wanted))
        return len(reader), (frames.pts_seconds - reader.metadata.begin_stream_seconds).tolist(), frames.data


def _decord() -> ModuleType:
    try:
        import decord  # type: ignore[import-not-found]
    except (ImportError, OSError) as error:
        raise UserError(
            "frames.decoder=decord: decord is not installed: pip install decord, or use frames.decoder=pyav"
        ) from error
    return decord


def _torchcodec() -> ModuleType:
    try:
        import torchcodec  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError(
            "frames.decoder=torchcodec: torchcodec is not installed: pip install torchcodec, or use frames.decoder=pyav"
        ) from error
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"frames.decoder=torchcodec: torchcodec cannot be loaded ({_missing_library(error)}): it needs FFmpeg's "
            "shared libraries (4 to 8) and those that it was built for; install them, or use frames.decoder=pyav"
        ) from error
    return torchcodec


def _missing_library(error: Exception) -> str:
    """What torchcodec lacks. It tries FFmpeg 8 to 4 in turn, and its page names for each what was missing first.

    Where another library than FFmpeg's was missing, FFmpeg of that version was found: the other one is the cause.
    """
    faults = dict.fromkeys(re.findall(r"\S+\.(?:so|dylib)[.\d]*: [^\n]+", str(error)))
    others = [fault for fault in faults if not re.match(r"\S*lib(av|sw)", fault)]
    return "; ".join(others or list(faults)[:1]) or str(error).strip().partition("\n")[0]


DECODERS: dict[str, Callable[[int], Decoder]] = {"pyav": PyAv, "decord": Decord, "torchcodec": TorchCodec}


def decoder_for(name: str, workers: int) -> Decoder:
    """The decoder of this name, with one thread a file where `workers` processes decode, else with all.

    UserError for an unknown name, or for a decoder that is not installed.
    """
    if name not in DECODERS:
        raise UserError(f"frames.decoder={name}: unknown; choose from: {', '.join(DECODERS)}")
    return DECODERS[name](1 if workers else 0)
