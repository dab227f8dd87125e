"""The decoders by the names that a configuration gives them; two of them are optional."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from sevila.data.decoding import PyAv
from sevila.data.frame_table import FrameTable, frame_table
from sevila.data.video import Decoder
from sevila.errors import UserError


class NumberedFile:
    """A file of an optional library: its frames are numbered by its packets, whatever the library counts.

    threads   that the library may use; 0: as many as there are processors
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.path, self.threads = path, threads
        self.table = frame_table(path)


def check_numbering(path: Path, name: str, table: FrameTable, wanted: Sequence[int], times: Sequence[float]) -> None:
    """UserError where a decoder's frames `wanted` are not the table's, by the seconds since the first frame."""
    for index, seconds in zip(wanted, times, strict=True):
        near = range(max(index - 1, 0), min(index + 2, len(table.stamps)))
        if min(near, key=lambda other: abs(table.time(other) - seconds)) != index:
            raise refusal(path, name, f"its frame {index} is at {seconds:.3f} s, not at {table.time(index):.3f} s")


def refusal(path: Path, name: str, reason: object) -> UserError:
    """The error for a file that an optional decoder does not read as it should."""
    said = " ".join(str(reason).split())[:200]
    return UserError(f"{name} does not read video {path} rightly ({said}): use frames.decoder=pyav")


@dataclass(frozen=True)
class Decord:
    """threads: as `PyAv`'s. It resizes as PyAV does, rounding less carefully: a mean of up to 1 in 255 apart."""

    threads: int = 0

    def __post_init__(self) -> None:
        _decord()

    def open(self, path: Path) -> DecordFile:
        return DecordFile(path, self.threads)


class DecordFile(NumberedFile):
    """The frames of one file."""

    def decode(self, wanted: Sequence[int], size: int) -> dict[int, Tensor]:
        """Frame number -> uint8 [3, size, size]. UserError where decord counts other frames than PyAV, or fails."""
        library = _decord()
        try:
            reader = library.VideoReader(str(self.path), width=size, height=size, num_threads=self.threads)
            if len(reader) != len(self.table.stamps):
                raise refusal(self.path, "decord", f"it counts {len(reader)} frames, not {len(self.table.stamps)}")
            starts = reader.get_frame_timestamp(np.array([0, *wanted]))[:, 0]
            check_numbering(self.path, "decord", self.table, wanted, (starts[1:] - starts[0]).tolist())
            pixels = torch.from_numpy(reader.get_batch(list(wanted)).asnumpy())
        except (library.DECORDError, RuntimeError, IndexError) as error:
            raise refusal(self.path, "decord", error) from error
        return dict(zip(wanted, pixels.permute(0, 3, 1, 2).contiguous(), strict=True))


def _decord() -> ModuleType:
    try:
        import decord
    except (ImportError, OSError) as error:
        raise UserError(
            "frames.decoder=decord: decord is not installed: pip install decord, or use frames.decoder=pyav"
        ) from error
    return decord


@dataclass(frozen=True)
class TorchCodec:
    """threads: as `PyAv`'s. It converts colours before it resizes: a mean of up to 3 in 255 apart from PyAV's."""

    threads: int = 0

    def __post_init__(self) -> None:
        _torchcodec()

    def open(self, path: Path) -> TorchCodecFile:
        return TorchCodecFile(path, self.threads)


class TorchCodecFile(NumberedFile):
    """The frames of one file."""

    def decode(self, wanted: Sequence[int], size: int) -> dict[int, Tensor]:
        """Frame number -> uint8 [3, size, size]. UserError where torchcodec counts other frames than PyAV, or fails."""
        library = _torchcodec()
        try:
            # "approximate" seeking would be quicker and give wrong frames
            reader = library.decoders.VideoDecoder(
                str(self.path),
                seek_mode="exact",
                num_ffmpeg_threads=self.threads,
                transforms=[library.transforms.Resize((size, size))],
            )
            if len(reader) != len(self.table.stamps):
                raise refusal(self.path, "torchcodec", f"it counts {len(reader)} frames, not {len(self.table.stamps)}")
            frames = reader.get_frames_at(list(wanted))
            times = frames.pts_seconds - reader.metadata.begin_stream_seconds
        except (RuntimeError, ValueError, IndexError) as error:
            raise refusal(self.path, "torchcodec", error) from error
        check_numbering(self.path, "torchcodec", self.table, wanted, times.tolist())
        return dict(zip(wanted, frames.data, strict=True))


def _torchcodec() -> ModuleType:
    try:
        import torchcodec
    except ImportError as error:
        raise UserError(
            "frames.decoder=torchcodec: torchcodec is not installed: pip install torchcodec, or use frames.decoder=pyav"
        ) from error
    except (RuntimeError, OSError) as error:
        raise UserError(
            "frames.decoder=torchcodec: torchcodec does not find FFmpeg's shared libraries (4 to 8), or does not fit "
            "this torch: install them, or use frames.decoder=pyav"
        ) from error
    return torchcodec


DECODERS: dict[str, Callable[[int], Decoder]] = {"pyav": PyAv, "decord": Decord, "torchcodec": TorchCodec}


def decoder_for(name: str, workers: int) -> Decoder:
    """The decoder of this name, with one thread a file where `workers` processes decode, else with all.

    UserError for an unknown name, or for a decoder that is not installed.
    """
    if name not in DECODERS:
        raise UserError(f"frames.decoder={name}: unknown; choose from: {', '.join(DECODERS)}")
    return DECODERS[name](1 if workers else 0)
