"""Files with patches: some frames of one video in one view, each proven by a checksum."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sevila.files import seal, write_bytes

DAMAGED, MISPLACED = "is damaged (a checksum is wrong)", "is not what its place says"


class Refused(Exception):
    """Not a chunk of this owner, or not a whole one; says why."""


@dataclass(frozen=True)
class Chunk:
    """A file with the patches of some frames of one video, and what proves that it is whole.

    A safetensors file: `patches` [t, P, Dv], `indices` and `times` of the t frames; in its header to whom it belongs,
    the CRC-32 of each frame's patches and a checksum of all that is not patches. A file that is shorter or longer
    than its header says cannot be opened.

    checksums   of each frame's patches
    """

    file: Path
    indices: tuple[int, ...]
    times: tuple[float, ...]
    checksums: tuple[int, ...]

    def patches(self) -> Tensor:
        """All of them [t, P, Dv], mapped into memory. FileNotFoundError where the file is gone; Refused."""
        try:
            with safe_open(self.file, "pt") as opened:
                return opened.get_tensor("patches")
        except FileNotFoundError:
            raise
        except (SafetensorError, OSError) as error:
            raise _unreadable(error) from None

    def check(self, patches: Tensor, row: int) -> None:
        """Refused where a frame's patches, of [t, P, Dv], are not those that were written."""
        if checksum(patches[row]) != self.checksums[row]:
            raise Refused(DAMAGED)


def open_chunk(file: Path, owner: Mapping[str, str], dtype: torch.dtype) -> Chunk:
    """Read a chunk's header. FileNotFoundError where there is none; Refused, also for another owner's or dtype's."""
    try:
        with safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
            if {key: header.get(key) for key in owner} != dict(owner):
                raise Refused(MISPLACED)
            indices, times, patches = (opened.get_tensor(name) for name in ("indices", "times", "patches"))
            checksums = tuple(int(number) for number in header["crc32"].split())
            found = Chunk(file, tuple(indices.tolist()), tuple(times.tolist()), checksums)
            if header["seal"] != _seal(found, owner, patches):
                raise Refused(DAMAGED)
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise _unreadable(error) from None
    if len({len(indices), len(times), len(patches), len(checksums)}) > 1 or patches.dtype != dtype:
        raise Refused(MISPLACED)
    return found


def _unreadable(error: Exception) -> Refused:
    return Refused(f"cannot be read ({str(error).splitlines()[0]})")


def _seal(chunk: Chunk, owner: Mapping[str, str], patches: Tensor) -> str:
    """The checksum of a chunk without its patches."""
    return seal([dict(owner), chunk.indices, chunk.times, chunk.checksums, list(patches.shape), str(patches.dtype)])


def write_chunk(
    file: Path, owner: Mapping[str, str], indices: Sequence[int], times: Sequence[float], patches: Tensor
) -> int:
    """Write patches [t, P, Dv], atomically; returns the file's bytes. OSError where that cannot be done."""
    tensors = {
        "patches": patches,
        "indices": torch.tensor(indices),
        "times": torch.tensor(times, dtype=torch.float64),
    }
    chunk = Chunk(file, tuple(indices), tuple(map(float, times)), tuple(checksum(row) for row in patches))
    checksums = {"crc32": " ".join(map(str, chunk.checksums)), "seal": _seal(chunk, owner, patches)}
    data = save(tensors, {**owner, **checksums})
    write_bytes(file, data)
    return len(data)


def checksum(patches: Tensor) -> int:
    """CRC-32 of one frame's patches [P, Dv]."""
    return zlib.crc32(patches.reshape(-1).view(torch.uint8).numpy().data)
