"""Is a video file all there? What its container's outermost sizes promise, against the bytes on the disk.

A decoder plays a half-downloaded file to where it ends and says nothing. MP4 (ISO 14496-12), Matroska
(RFC 9559) and AVI (RIFF) state the size of each outermost part, so a missing tail is seen without decoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

EBML_HEADER = b"\x1a\x45\xdf\xa3"
MP4_MEDIA = {b"ftyp", b"moov", b"mdat", b"moof", b"sidx", b"styp"}
MP4_OTHERS = {b"free", b"skip", b"wide", b"udta", b"uuid", b"mfra"}  # no frame needs them: they may be unfinished
MP4_BOXES = MP4_MEDIA | MP4_OTHERS
RIFF_UNKNOWN = {0, 0xFFFFFFFF}  # sizes that their writer never filled in: a killed recording, or one to a pipe
MATROSKA_SEGMENT = b"\x18\x53\x80\x67"  # holds all that is shown; of what follows only another file counts


def missing_bytes(path: str | Path) -> int:
    """How many bytes are missing at the file's end; 0 where nothing is, or where the format does not say."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(8)
        file.seek(0)
        if head[:4] == EBML_HEADER:
            ends = _matroska_ends(file, size)
        elif head[:4] == b"RIFF":
            ends = _riff_ends(file, size)
        elif head[4:] in MP4_BOXES:
            ends = _mp4_ends(file, size)
        else:
            return 0
        return max([end - size for end in ends] + [0])


def _mp4_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where each outermost box ends, in bytes from the start."""
    start = 0
    while start < size:
        file.seek(start)
        head = file.read(16)
        if head[4:8] not in MP4_BOXES:
            return  # what follows the last known box is padding
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # a 64-bit size follows the name
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return  # 0: the box goes on to the end of the file, wherever that is
        start += length
        if head[4:8] in MP4_MEDIA:
            yield start


def _riff_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where each outermost chunk ends (a long AVI has several), in bytes from the start."""
    start = 0
    while start < size:
        file.seek(start)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or length in RIFF_UNKNOWN:
            return
        yield start + length  # whether the 8 bytes of the chunk's head count is where writers disagree
        start += 8 + length + length % 2


def _matroska_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where each outermost element ends, in bytes from the start, up to the segment; of joined files, of each."""
    start, element = 0, b""
    while start < size:
        file.seek(start)
        head = file.read(12)
        if element == MATROSKA_SEGMENT and head[:4] != EBML_HEADER:
            return
        element = head[:4]
        name_width = _ebml_width(head[0], 4)
        if name_width is None or len(head) <= name_width:
            return
        size_width = _ebml_width(head[name_width], 8)
        if size_width is None:
            return
        bits = 7 * size_width
        length = int.from_bytes(head[name_width : name_width + size_width], "big") & ((1 << bits) - 1)
        if length == (1 << bits) - 1:
            return  # unknown size: a live recording
        start += name_width + size_width + length
        yield start


def _ebml_width(first: int, widest: int) -> int | None:
    """Bytes in an EBML number, which its leading zero bits tell; None where that is no such number."""
    width = 9 - first.bit_length()
    return width if width <= widest else None
