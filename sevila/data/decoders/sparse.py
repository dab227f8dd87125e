"""Decode some frames of a file without decoding what they do not need: equal to the byte to decoding everything.

Three things are left out: whole groups of pictures in which no frame is wanted (decoding starts at the key frames
that are needed), what follows the last wanted frame of a group, and pictures that are not wanted and from which
nothing is predicted (`nal`; in x264's default settings about half of all). For what cannot be proven, or looks
damaged on the way, `Doubt` is raised, and the caller decodes plainly.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from sevila.data.nal import coding_of
from sevila.data.streams import FrameTable, open_video, packets_of

Convert = Callable[[VideoFrame], Tensor]


class Doubt(Exception):
    """What would come out may not be what plain decoding gives."""


def sparse_frames(
    path: Path, table: FrameTable, stamps: Sequence[int], threads: int, convert: Convert
) -> dict[int, Tensor]:
    """Stamp -> converted frame, for ascending `stamps`.

    Raises Doubt; UserError where the file cannot be opened any more.
    """
    if not table.by_packet:
        raise Doubt("its packets do not tell its frames apart")
    with open_video(path, 1 if table.open_groups else threads) as (container, stream):
        if not table.open_groups:
            stream.codec_context.options = {"err_detect": "explode"}  # raise for damage, do not paint over it
        try:
            return _decode(_Walk(path, container, stream, table), stream, stamps, convert)
        except av.FFmpegError as error:
            raise Doubt from error


def _decode(walk: _Walk, stream: VideoStream, stamps: Sequence[int], convert: Convert) -> dict[int, Tensor]:
    wanted, coding, keys = set(stamps), coding_of(stream), walk.table.keys
    found: dict[int, Tensor] = {}
    run = _Run(stream.codec_context, wanted, convert)
    for place, group in itertools.groupby(stamps, lambda stamp: bisect_right(keys, stamp)):
        if place > max(walk.place, 1) and not walk.is_next(keys[place - 1]):
            found |= run.finish()
            walk.jump(place)
            run = _Run(stream.codec_context, wanted, convert, keys[place - 1], proven=coding is not None)
        missing = set(group) - run.sent
        while missing and (packet := walk.take()):
            if packet.pts in wanted or coding is None or not coding.droppable(bytes(packet)):
                run.send(packet)
                missing.discard(packet.pts)
    return found | run.finish()


class _Walk:
    """The packets in the file's order, with jumps to key frames.

    place   how many of the table's key frames lie up to here
    """

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream, table: FrameTable) -> None:
        self.table = table
        self._path, self._container, self._stream = path, container, stream
        self._packets = packets_of(path, container, stream)
        self._held: av.Packet | None = None
        self.place = 0

    def take(self) -> av.Packet | None:
        """The next packet; None at the end."""
        packet, self._held = self._peek(), None
        if packet is not None and packet.is_keyframe:
            self.place = max(self.place, bisect_right(self.table.keys, packet.pts))
        return packet

    def is_next(self, key: int) -> bool:
        """Is the packet with this stamp the next one?"""
        packet = self._peek()
        return packet is not None and packet.pts == key

    def jump(self, place: int) -> None:
        """Make the packet of this key frame, ahead of here, the next one. What lies between is not decoded."""
        key = self.table.keys[place - 1]
        if self.table.seekable and place > self.place + 1:
            self._seek(key)
            first = self._peek()
            if first is None or first.pts > key:  # a container looks by decoding stamps, and may overshoot
                self._seek(self.table.keys[0])
        self._stream.codec_context.flush_buffers()
        while not self.is_next(key):
            if self.take() is None:
                raise Doubt("a key frame is not found again")

    def _seek(self, stamp: int) -> None:
        self._container.seek(stamp, stream=self._stream)
        self._packets, self._held = packets_of(self._path, self._container, self._stream), None

    def _peek(self) -> av.Packet | None:
        self._held = self._held or next(self._packets, None)
        if self._held is not None and self._held.pts is None:
            raise Doubt("a packet has lost its stamp")
        return self._held


class _Run:
    """One stretch of decoding, from the start of the file or from the key frame with stamp `since`.

    proven   the key frame says of itself that decoding can start there; else the decoder must say so
    """

    def __init__(
        self, codec: CodecContext, wanted: set[int], convert: Convert, since: int | None = None, proven: bool = True
    ) -> None:
        self._codec, self._wanted, self._convert = codec, wanted, convert
        self._since, self._proven = since, proven
        self._found: dict[int, Tensor] = {}
        self._awaited: set[int] = set()  # stamps of packets whose frames shall come out
        self.sent: set[int] = set()  # stamps of all packets

    def send(self, packet: av.Packet) -> None:
        """Decode a packet."""
        if packet.is_corrupt:
            raise Doubt("a packet is damaged")
        self.sent.add(packet.pts)
        if not packet.is_discard and (self._since is None or packet.pts >= self._since):
            self._awaited.add(packet.pts)
        for frame in self._codec.decode(packet):
            self._receive(frame)

    def finish(self) -> dict[int, Tensor]:
        """Decode what the decoder still holds, and give the wanted frames."""
        if self.sent:
            for frame in self._codec.decode(None):
                self._receive(frame)
        if self._awaited:
            raise Doubt("a frame did not come out")
        return self._found

    def _receive(self, frame: VideoFrame) -> None:
        stamp = frame.pts
        if stamp is None:
            raise Doubt("a frame has no stamp")
        if not self._proven:
            if not frame.key_frame or stamp > self._since:
                raise Doubt("decoding does not start at the key frame")
            self._proven = True
        if self._since is not None and stamp < self._since:
            return  # shown before the key frame: what it is predicted from may be missing, and nobody wants it
        if frame.is_corrupt:
            raise Doubt("a frame is damaged")
        if stamp not in self._awaited:
            raise Doubt("a frame came out that no packet held")
        self._awaited.remove(stamp)
        if stamp in self._wanted:
            self._found[stamp] = self._convert(frame)
