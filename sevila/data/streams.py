"""Open a video file, and make the table of its frames.

The table comes from the packets of the file, never from its header: the ascending presentation stamps of the
packets that are shown. A decoded frame is known by its stamp, so B-frames, variable frame rates, edit lists
and negative start times need no special care. Where stamps cannot be trusted (`_table_of_packets` says when),
the whole file is decoded once and its frames counted.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sevila.data.containers import missing_bytes
from sevila.errors import UserError

# FFmpeg would also take a text file for a film (tty), or follow a playlist to other files.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,gif,h264,hevc,m4v,ivf,obu,mxf,nut,rm,dv"
# Containers whose marks of key frames are safe to jump to (AVI's are not: Cinepak marks every frame).
SEEKABLE = {"mov", "matroska"}
# Codecs with packets that are decoded but never shown.
HIDDEN_FRAMES = {"vp8"}


@dataclass(frozen=True, eq=False)
class FrameTable:
    """The frames of a video in the order in which they are shown.

    stamps    ascending presentation stamps, in ticks
    keys      stamps of the key frames to which a jump is safe; may be empty
    tick      seconds
    rate      the stream's average frames a second
    last      ticks for which the last frame is shown
    counted   frames bear no usable stamps: a frame's stamp is its place
    """

    stamps: array
    keys: array
    tick: Fraction
    rate: Fraction
    last: Fraction
    counted: bool

    def time(self, index: int) -> float:
        """Seconds of a frame since the first one."""
        return float((self.stamps[index] - self.stamps[0]) * self.tick)

    @property
    def duration(self) -> float:
        """Seconds from the first frame's appearance to the last one's end."""
        return float((self.stamps[-1] - self.stamps[0] + self.last) * self.tick)


def frame_table(path: Path) -> FrameTable:
    """Read all packets of a file. UserError, one line: missing, empty, cut off, damaged, or no video."""
    _check_file(path)
    table = _table_of_packets(path) or _table_of_frames(path)
    if not table.stamps:
        raise UserError(f"video {path} holds no frames: download or encode it again")
    return table


def frames_from(path: Path, table: FrameTable, index: int) -> Iterator[tuple[int | None, VideoFrame]]:
    """(stamp, frame) in the order shown: from the key frame that frame `index` needs, or from the start.

    A jump counts only if it arrived at that key frame or before it, and decoding can start there.
    """
    place = bisect_right(table.keys, table.stamps[index])
    if place > 1:  # the first key frame is where the file starts anyway
        key = table.keys[place - 1]
        with open_video(path) as (container, stream):
            container.seek(key, stream=stream)
            frames = container.decode(stream)
            first = next(frames, None)
            clean = first is not None and first.key_frame and not first.is_corrupt
            if clean and first.pts is not None and first.pts <= key:
                yield first.pts, first
                yield from ((frame.pts, frame) for frame in frames)
                return
    with open_video(path) as (container, stream):
        for count, frame in enumerate(container.decode(stream)):
            yield (count if table.counted else frame.pts), frame


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open file and its main video stream; FFmpeg's errors until it is closed become UserErrors.

    Decoding runs in one thread: the parallel ones are DataLoader workers, and a damaged file always gives the
    same pictures.
    """
    try:
        # "file:" keeps a name such as "concat:x" from being read as one of FFmpeg's protocols.
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        container = av.open(f"file:{path}", options=options)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a video that can be read: use a whole mp4, mkv, webm or avi file") from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            raise UserError(f"{path} has no video stream: name a file that has one")
        stream.thread_count = 1
        try:
            yield container, stream
        except av.FFmpegError as error:
            raise UserError(f"video {path} is damaged ({_reason(error)}): download it again") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a video: name a file in it")
    if not path.is_file():
        raise UserError(f"video {path} does not exist: check the path")
    if path.stat().st_size == 0:
        raise UserError(f"video {path} is empty (0 bytes): download it again")
    try:
        missing = missing_bytes(path)
    except OSError as error:
        raise UserError(f"video {path} cannot be opened: {_reason(error)}") from error
    if missing:
        raise UserError(f"video {path} is cut off, {missing} bytes are missing at its end: download it again")


class _Packet(NamedTuple):
    """What the table needs of a packet, without its data."""

    stamp: int | None
    duration: int | None
    key: bool
    shown: bool
    corrupt: bool

    @classmethod
    def of(cls, packet: av.Packet) -> _Packet:
        return cls(packet.pts, packet.duration, packet.is_keyframe, not packet.is_discard, packet.is_corrupt)


def _table_of_packets(path: Path) -> FrameTable | None:
    """The table as the packets tell it, without decoding. None where they cannot be trusted:

    a packet has no stamp or two have the same; frames come before the first key frame, and a decoder may drop
    them; the codec has hidden frames; frames are reordered in AVI, which stores no presentation stamps.
    """
    with open_video(path) as (container, stream):
        # The last packet that PyAV gives is an empty one, which asks a decoder for its rest.
        packets = [_Packet.of(packet) for packet in container.demux(stream) if packet.size]
        if not packets:
            raise UserError(f"video {path} holds no frames: download or encode it again")
        if packets[-1].corrupt:
            raise UserError(f"video {path} is cut off within its last frame: download it again")
        stamps = [packet.stamp for packet in packets]
        names = set(container.format.name.split(","))
        codec = stream.codec_context
        if (
            None in stamps
            or len(set(stamps)) < len(stamps)
            or min(stamps) < stamps[0]
            or not packets[0].key
            or codec.codec.name in HIDDEN_FRAMES
            or ("avi" in names and codec.has_b_frames)
        ):
            return None
        shown = sorted((packet.stamp, packet.duration) for packet in packets if packet.shown)
        keys = sorted(packet.stamp for packet in packets if packet.key) if names & SEEKABLE else []
        rate, tick = _rate(path, stream), stream.time_base
        last = shown[-1][1] if shown else 0
        return FrameTable(
            stamps=array("q", [stamp for stamp, _ in shown]),
            keys=array("q", keys),
            tick=tick,
            rate=rate,
            last=Fraction(last) if last else 1 / (rate * tick),
            counted=False,
        )


def _table_of_frames(path: Path) -> FrameTable:
    """The table by decoding the whole file."""
    with open_video(path) as (container, stream):
        rate, tick = _rate(path, stream), stream.time_base
        stamps = [frame.pts for frame in container.decode(stream)]
    counted = None in stamps or any(a >= b for a, b in itertools.pairwise(stamps))
    if counted:
        stamps, tick = range(len(stamps)), 1 / rate
    return FrameTable(array("q", stamps), array("q"), tick, rate, 1 / (rate * tick), counted)


def _rate(path: Path, stream: VideoStream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise UserError(f"video {path} states no frame rate: re-encode it with one")
    return Fraction(rate)
