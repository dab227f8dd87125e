"""A chunk: a file with the patches of some frames of one video, and what proves that it is whole.

A safetensors file: `patches` [t, P, Dv], `indices` and `times` of the t frames; in its header to whom it belongs,
the CRC-32 of each frame's patches and a checksum of all that is not patches. A file that is shorter or longer than its
header says cannot be opened.
"""

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

SUFFIX = ".safetensors"


class Refused(Exception):
    """Not a chunk of this owner, or not a whole one; says why."""


@dataclass(frozen=True)
class Chunk:
    """The frames in a file, in its order, and the checksum of each one's patches."""

    file: Path
    indices: tuple[int, ...]
    times: tuple[float, ...]
    checksums: tuple[int, ...]

    def patches(self) -> Tensor:
        """All of them [t, P, Dv], mapped into memory. FileNotFoundError where the file is gone; Refused."""
        return _tensor(self.file, "patches")

    def check(self, patches: Tensor, row: int) -> None:
        """Refused where a frame's patches are not those that were written."""
        if checksum(patches[row]) != self.checksums[row]:
            raise Refused("is damaged (a checksum is wrong)")


def open_chunk(file: Path, owner: Mapping[str, str], dtype: torch.dtype) -> Chunk:
    """Read a chunk's header. FileNotFoundError where there is none; Refused, also for another owner's or dtype's."""
    try:
        with safe_open(file, "pt") as opened:
            said = opened.metadata() or {}
            if {key: said.get(key) for key in owner} != dict(owner):
                raise Refused("is not what its place says")
            indices, times, patches = (opened.get_tensor(name) for name in ("indices", "times", "patches"))
            checksums = tuple(int(word) for word in said["crc32"].split())
            found = Chunk(file, tuple(indices.tolist()), tuple(times.tolist()), checksums)
            if said["seal"] != _seal(found, owner, patches):
                raise Refused("is damaged (a checksum is wrong)")
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise Refused(f"cannot be read ({str(error).splitlines()[0]})") from None
    if len({len(indices), len(times), len(patches), len(checksums)}) > 1 or patches.dtype != dtype:
        raise Refused("is not what its place says")
    return found


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
    return zlib.crc32(patches.reshape(-1).view(torch.uint8).numpy())


def _tensor(file: Path, name: str) -> Tensor:
    try:
        with safe_open(file, "pt") as opened:
            return opened.get_tensor(name)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        raise Refused(f"cannot be read ({str(error).splitlines()[0]})") from None
