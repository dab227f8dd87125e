"""PyAV (FFmpeg), the default decoder: some frames of a file, without decoding what they do not need.

Three things are left out: whole groups of pictures in which no frame is wanted (decoding starts at the key frames
that are needed), what follows the last wanted frame of a group, and pictures that are not wanted and from which
nothing is predicted (in x264's default settings about half of all): FFmpeg passes over these itself when it is told
so packet by packet. What comes out equals plain decoding to the byte. Where that is not certain, or the file looks
damaged on the way, it is decoded plainly.
"""

from __future__ import annotations

import itertools
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from sevila.data.frame_table import FrameTable, decoded_frames, frame_table, open_video, packets_of
from sevila.data.transforms import Size, to_tensor

Convert = Callable[[VideoFrame], Tensor]
MOST_THREADS = 16  # that FFmpeg advises
PROGRESSIVE = 1  # FFmpeg's AV_FIELD_PROGRESSIVE: no field of a frame has a packet of its own


@dataclass(frozen=True)
class PyAv:
    """threads: that decode one file; 0: as many as its processors can use. Use 1 where several processes decode."""

    threads: int = 0

    def open(self, path: Path) -> PyAvFile:
        """UserError, one line that names the file, where it is missing, empty, cut off, damaged, or no video."""
        return PyAvFile(path, self.threads)


class PyAvFile:
    """The frames of one file."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path, self.threads = path, threads
        self.table = frame_table(path)

    def decode(self, wanted: Sequence[int], size: Size) -> dict[int, Tensor]:
        """Frame number -> uint8 [3, H, W]; without those that do not decode. UserError for a damaged file."""
        numbers = {self.table.stamps[index]: index for index in wanted}
        reformatter = VideoReformatter()

        def convert(frame: VideoFrame) -> Tensor:  # uint8 [3, H, W]
            return to_tensor(frame, size, reformatter)

        try:
            found = self._needed(list(numbers), convert)
        except Inexact:
            found = plain_frames(self.path, self.table, set(numbers), convert)
        return {numbers[stamp]: pixels for stamp, pixels in found.items()}

    def _needed(self, stamps: Sequence[int], convert: Convert) -> dict[int, Tensor]:
        try:
            return needed_frames(self.path, self.table, stamps, self.threads, convert)
        except NoStart:  # as in H.264 with intra refresh: from now on this file is decoded from its start
            self.table = replace(self.table, keys=array("q"))
            return needed_frames(self.path, self.table, stamps, self.threads, convert)


def plain_frames(path: Path, table: FrameTable, stamps: set[int], convert: Convert) -> dict[int, Tensor]:
    """Stamp -> converted frame, uint8 [3, H, W], by decoding every frame from the start, in one thread."""
    found: dict[int, Tensor] = {}
    with open_video(path) as (container, stream):
        for place, frame in enumerate(decoded_frames(path, container, stream)):
            stamp = place if table.counted else frame.pts
            if stamp in stamps and stamp not in found:
                found[stamp] = convert(frame)
                if len(found) == len(stamps):
                    break
    return found


class Inexact(Exception):
    """What would come out may not be what plain decoding gives."""


class NoStart(Inexact):
    """Decoding does not start at a picture that the container marks as a key frame."""


def needed_frames(
    path: Path, table: FrameTable, stamps: Sequence[int], threads: int, convert: Convert
) -> dict[int, Tensor]:
    """Stamp -> converted frame, uint8 [3, H, W], for ascending `stamps`, by decoding little else.

    Raises Inexact; UserError where the file cannot be opened any more.
    """
    if not table.by_packet:
        raise Inexact("its packets do not tell its frames apart")
    # a packet that is left out takes its turn among FFmpeg's threads: twice as many keep the processors at work
    threads = threads or min(MOST_THREADS, 2 * (os.cpu_count() or 1))
    with open_video(path, 1 if table.open_groups else threads) as (container, stream):
        if not table.open_groups:
            stream.codec_context.options = {"err_detect": "explode"}  # raise for damage, do not paint over it
        try:
            return _decode_groups(_Packets(path, container, stream, table), stream, stamps, convert)
        except av.FFmpegError as error:
            raise Inexact from error


def _decode_groups(
    packets: _Packets, stream: VideoStream, stamps: Sequence[int], convert: Convert
) -> dict[int, Tensor]:
    wanted, keys, skips = set(stamps), packets.table.keys, _may_skip(stream.codec_context)
    found: dict[int, Tensor] = {}
    run = _Run(stream.codec_context, wanted, convert, skips)
    for place, group in itertools.groupby(stamps, lambda stamp: bisect_right(keys, stamp)):
        if place > max(packets.place, 1) and not packets.is_next(keys[place - 1]):
            found |= run.finish()
            packets.jump(place)
            run = _Run(stream.codec_context, wanted, convert, skips, keys[place - 1])
        missing = set(group) - run.sent
        while missing and (packet := packets.take()):
            run.send(packet)
            missing.discard(packet.pts)
    return found | run.finish()


def _may_skip(codec: VideoCodecContext) -> bool:
    """Does FFmpeg know pictures that no other one is predicted from, so that the others come out the same?

    In H.264 it goes by nal_ref_idc (ITU-T H.264, 7.4.1), but field by field. In HEVC a picture that is "no reference"
    is one for its temporal layer alone (ITU-T H.265, table 7-1): there must be one layer, as the file's hvcC box
    says (ISO 14496-15, 8.3.3.1: numTemporalLayers).
    """
    if codec.codec.canonical_name == "hevc":
        box = codec.extradata or b""
        return box[:1] == b"\x01" and len(box) > 21 and box[21] >> 3 & 7 == 1
    return codec.codec.canonical_name == "h264" and codec.field_order == PROGRESSIVE


class _Packets:
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
            self.place = max(self.place, bisect_right(self.table.keys, _stamp(packet)))
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
            if first is None or _stamp(first) > key:  # a container looks by decoding stamps, and may overshoot
                self._seek(self.table.keys[0])
        self._stream.codec_context.flush_buffers()
        while not self.is_next(key):
            if self.take() is None:
                raise Inexact("a key frame is not found again")

    def _seek(self, stamp: int) -> None:
        self._container.seek(stamp, stream=self._stream)
        self._packets, self._held = packets_of(self._path, self._container, self._stream), None

    def _peek(self) -> av.Packet | None:
        self._held = self._held or next(self._packets, None)
        return self._held


def _stamp(packet: av.Packet) -> int:
    if packet.pts is None:
        raise Inexact("a packet has lost its stamp")
    return packet.pts


class _Run:
    """One stretch of decoding, from the start of the file or from the key frame with stamp `since`.

    skips   FFmpeg may leave out pictures that are not wanted and no reference
    """

    def __init__(
        self, codec: VideoCodecContext, wanted: set[int], convert: Convert, skips: bool, since: int | None = None
    ) -> None:
        self._codec, self._wanted, self._convert, self._skips = codec, wanted, convert, skips
        self._since, self._started = since, since is None
        self._found: dict[int, Tensor] = {}
        self._due: set[int] = set()  # stamps of packets whose frames may still come out
        self.sent: set[int] = set()  # stamps of all packets

    def send(self, packet: av.Packet) -> None:
        """Decode a packet."""
        if packet.is_corrupt:
            raise Inexact("a packet is damaged")
        stamp = _stamp(packet)
        self.sent.add(stamp)
        if not packet.is_discard and (self._since is None or stamp >= self._since):
            self._due.add(stamp)
        if self._skips:  # each thread of FFmpeg's gets it with its packet
            needed = stamp in self._wanted or stamp == self._since
            self._codec.skip_frame = "DEFAULT" if needed else "NONREF"
        for frame in self._codec.decode(packet):
            self._receive(frame)

    def finish(self) -> dict[int, Tensor]:
        """Decode what the decoder still holds, and give the wanted frames, uint8 [3, H, W], by stamp."""
        if self.sent:
            for frame in self._codec.decode(None):
                self._receive(frame)
        if not self._started:
            raise NoStart
        if self._due & self._wanted or (self._due and not self._skips):
            raise Inexact("a frame did not come out")
        return self._found

    def _receive(self, frame: VideoFrame) -> None:
        stamp = frame.pts
        if stamp is None:
            raise Inexact("a frame has no stamp")
        if not self._started:
            # the decoder knows what a key frame is
            if not frame.key_frame or (self._since is not None and stamp > self._since):
                raise NoStart
            self._started = True
        if self._since is not None and stamp < self._since:
            return  # shown before the key frame: what it is predicted from may be missing, and nobody wants it
        if frame.is_corrupt:
            raise Inexact("a frame is damaged")
        if stamp not in self._due:
            raise Inexact("a frame came out that no packet held")
        self._due.remove(stamp)
        if stamp in self._wanted:
            self._found[stamp] = self._convert(frame)
