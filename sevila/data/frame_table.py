"""Open a video file, and make the table of its frames.

The table comes from the packets of the file, never from its header: the ascending presentation stamps of the
packets that are shown. A decoded frame is known by its stamp, so B-frames, variable frame rates, edit lists
and negative start times need no special care. Where stamps may not tell the order in which frames are shown
(`_ambiguous` says when), the whole file is decoded once, and the decoder's order counts. The first frame is decoded on
the way, so what cannot be decoded at all fails early.
"""

from __future__ import annotations

import itertools
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sevila.data.transforms import Size, shown_size
from sevila.errors import UserError

# FFmpeg would also take a text file for a film (tty), or follow a playlist to other files.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,gif,h264,hevc,m4v,ivf,obu,mxf,nut,rm,dv"
# Containers whose marks of key frames are safe to jump to (AVI's are not: Cinepak marks every frame), and where a
# jump arrives. In others decoding starts only at frames of codecs whose decoder knows whether it can start there.
SEEKABLE = {"mov", "matroska"}
KNOWN_STARTS = {"h264", "hevc"}
# Codecs with packets that are decoded but never shown.
HIDDEN_FRAMES = {"vp8"}
# Titles and tags may be in any encoding. PyAV 19 replaces what is no UTF-8 by itself, and knows no such argument.
ANY_METADATA: dict[str, Any] = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
# A packet of MPEG-4 that is smaller may say only "the same picture again"; no frame comes out for it.
SAME_PICTURE_BYTES = 16
# How the outermost parts of a file begin, where they state their size (`missing_bytes`).
MP4_MEDIA = {b"ftyp", b"moov", b"mdat", b"moof", b"sidx", b"styp"}
MP4_OTHERS = {b"free", b"skip", b"wide", b"udta", b"uuid", b"mfra"}  # no frame needs them: they may be unfinished
RIFF_UNKNOWN = {0, 0xFFFFFFFF}  # sizes that their writer never filled in: a killed recording, or one to a pipe
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# Frames are evenly spaced if each is shown at most so many seconds from (number / stated rate).
EVEN_SECONDS = Fraction(1, 50)


@dataclass(frozen=True, eq=False)
class FrameTable:
    """The frames of a video in the order in which they are shown.

    stamps       ascending presentation stamps, in ticks
    keys         stamps of the key frames at which decoding may start; may be empty
    tick         seconds
    rate         frames a second: the stream's stated average where frames are evenly spaced, else length / duration
    even         frame n is shown n / rate seconds after the first one
    last         ticks for which the last frame is shown
    counted      frames bear no usable stamps: a frame's stamp is its place
    size         height and width as shown, in pixels
    by_packet    each frame has a packet with its stamp, so what a frame needs can be told before decoding
    seekable     a jump to a key frame arrives there
    open_groups  H.264 frames follow a key frame that are shown before it: where decoding starts at that key frame,
                 the decoder takes them for damaged
    shown        of counted frames the ticks at which they are shown, where these are known and not evenly spaced
    """

    stamps: array
    keys: array
    tick: Fraction
    rate: Fraction
    last: Fraction
    counted: bool
    size: Size
    even: bool = True
    by_packet: bool = False
    seekable: bool = False
    open_groups: bool = False
    shown: array | None = None

    def time(self, index: int) -> float:
        """Seconds of a frame since the first one."""
        ticks = self.shown or self.stamps
        return float((ticks[index] - ticks[0]) * self.tick)

    @property
    def duration(self) -> float:
        """Seconds from the first frame's appearance to the last one's end."""
        ticks = self.shown or self.stamps
        return float((ticks[-1] - ticks[0] + self.last) * self.tick)


def frame_table(path: Path) -> FrameTable:
    """Read all packets of a file. UserError, one line: missing, empty, cut off, damaged, or no video."""
    _check_file(path)
    table = _table_of_packets(path) or _table_of_frames(path)
    if not table.stamps:
        raise UserError(f"video {path} holds no frames: download or encode it again")
    return table


@contextmanager
def open_video(path: Path, threads: int = 1) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open file and its main video stream; FFmpeg's errors until it is closed become UserErrors.

    threads   that decode. With more than one, what a damaged file gives may differ from run to run.
    """
    try:
        # "file:" keeps a name such as "concat:x" from being read as one of FFmpeg's protocols.
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        container = av.open(f"file:{path}", options=options, **ANY_METADATA)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a video that can be read: use a whole mp4, mkv, webm or avi file") from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            raise UserError(f"{path} has no video stream: name a file that has one")
        if stream.codec_context is None:
            raise UserError(f"video {path} is in a coding that cannot be decoded here: encode it again, as H.264")
        stream.thread_count = threads
        if threads != 1:
            stream.thread_type = "AUTO"
        try:
            yield container, stream
        except av.FFmpegError as error:
            raise UserError(f"video {path} is damaged ({_reason(error)}): download it again") from error


def packets_of(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """The packets in the file's order. Those without bytes are left out: the picture before them stays."""
    try:
        yield from (packet for packet in container.demux(stream) if packet.size)
    except IndexError as error:  # PyAV's, where a damaged file begins a new stream on its way
        raise UserError(f"video {path} is damaged (a stream without a head): download it again") from error


def decoded_frames(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All frames from here on, in the decoder's order."""
    for packet in packets_of(path, container, stream):
        yield from stream.codec_context.decode(packet)
    yield from stream.codec_context.decode(None)  # what the decoder still holds


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _check_file(path: Path) -> None:
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder, not a video: name a file in it")
    if not os.path.exists(path):  # not Path's: it raises for too long a name
        raise UserError(f"video {path} does not exist: check the path")
    if not path.is_file():
        raise UserError(f"video {path} is a pipe or device: name a file")
    if path.stat().st_size == 0:
        raise UserError(f"video {path} is empty (0 bytes): download it again")
    try:
        missing = missing_bytes(path)
    except OSError as error:
        raise UserError(f"video {path} cannot be opened: {_reason(error)}") from error
    if missing and not _all_samples_there(path):
        raise UserError(f"video {path} is cut off, {missing} bytes are missing at its end: download it again")


def _all_samples_there(path: Path) -> bool:
    """Do all pictures that an mp4's index names lie within the file? Then its last box only promises too much."""
    try:
        with open_video(path) as (container, stream):
            ends = [entry.pos + entry.size for entry in stream.index_entries]
            indexed = "mov" in container.format.name.split(",") and 0 < stream.frames == len(ends)
            return indexed and max(ends) <= path.stat().st_size
    except UserError:  # its index is what is missing
        return False


def missing_bytes(path: Path) -> int:
    """How many bytes are missing at a file's end, by the sizes of its container's outermost parts.

    A decoder plays a half-downloaded file to where it ends, and says nothing. 0 where the format does not say.
    """
    size, at, end, last = path.stat().st_size, 0, 0, b""
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(16)
            length, needed = _outermost(head, last)
            if not length:
                break
            at, end, last = at + length, max(end, at + needed), head
    return max(end - size, 0)


def _outermost(head: bytes, last: bytes) -> tuple[int, int]:
    """Bytes of the part that begins so, and how many of them must be there; (0, 0) for none, or one without a size.

    MP4 (ISO 14496-12), RIFF (AVI) and Matroska (RFC 9559). `last`: how the part before it begins
    """
    if head[4:8] in MP4_MEDIA | MP4_OTHERS:
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # a 64-bit size follows the name
            length = int.from_bytes(head[8:16], "big")
        if length >= 8:  # 0: up to the end of the file, wherever that is
            return length, length if head[4:8] in MP4_MEDIA else 0
    elif head[:4] == b"RIFF":
        length = int.from_bytes(head[4:8], "little")
        if length not in RIFF_UNKNOWN:  # whether it counts the 8 bytes of its head is where writers disagree
            return 8 + length + length % 2, length
    elif head[:4] == EBML or (head[:4] == SEGMENT and last[:4] == EBML):  # behind a segment only a whole file counts
        width = 9 - head[4].bit_length() if len(head) > 4 else 9  # an EBML number's leading zero bits tell its bytes
        unknown = (1 << 7 * width) - 1  # a live recording
        length = int.from_bytes(head[4 : 4 + width], "big") & unknown
        if width < 9 and length != unknown:
            return (4 + width + length,) * 2
    return 0, 0


class _Packet(NamedTuple):
    """What the table needs of a packet, without its data."""

    stamp: int
    decoded: int | None  # its decoding stamp
    duration: int | None
    key: bool
    shown: bool
    size: int


class _FirstFrame:
    """Decodes packets until a frame comes out."""

    def __init__(self, stream: VideoStream) -> None:
        self._codec = stream.codec_context
        self._frame: VideoFrame | None = None
        self._error: av.FFmpegError | None = None

    def feed(self, packet: av.Packet | None) -> None:
        if self._frame is None and self._error is None:
            try:
                self._frame = next(iter(self._codec.decode(packet)), None)
            except av.FFmpegError as error:
                self._error = error  # raised by `size`, so that it is said only of a file that is all there

    def size(self, path: Path) -> Size:
        """Height and width as shown. UserError where no frame came out, or where it cannot be shown upright."""
        if self._error is not None:
            raise self._error
        if self._frame is None:
            raise UserError(f"no frame of video {path} can be decoded: the file is damaged, get it again")
        return _size(path, self._frame)


def _size(path: Path, frame: VideoFrame) -> Size:
    try:
        return shown_size(frame)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _table_of_packets(path: Path) -> FrameTable | None:
    """The table as the packets tell it. None where a packet has no stamp, where they do not tell the frames apart, or
    where the decoder shows other frames, or in another order.
    """
    with open_video(path) as (container, stream):
        codec, first, packet = stream.codec_context, _FirstFrame(stream), None
        packets: list[_Packet] = []
        unstamped = False
        for packet in packets_of(path, container, stream):
            first.feed(packet)
            unstamped |= packet.pts is None
            facts = packet.dts, packet.duration, packet.is_keyframe, not packet.is_discard, packet.size
            packets.append(_Packet(packet.pts or 0, *facts))
        first.feed(None)
        if packet is None:
            raise UserError(f"video {path} holds no frames: download or encode it again")
        if packet.is_corrupt:
            raise UserError(f"video {path} is cut off within its last frame: download it again")
        names = set(container.format.name.split(","))
        if unstamped or not _tell_apart(packets, codec, names):
            return None
        shown = sorted((packet.stamp, packet.duration) for packet in packets if packet.shown)
        size = first.size(path) if shown else (0, 0)
        stamps = [stamp for stamp, _ in shown]
        if _ambiguous(packets, codec) and stamps != _decoded_stamps(path):
            return None
        seekable = bool(names & SEEKABLE)
        marked = seekable or codec.codec.canonical_name in KNOWN_STARTS
        stated, tick = _stated(path, stream)
        last = Fraction(shown[-1][1]) if shown and shown[-1][1] else 1 / (stated * tick)
        rate, even = _rate(stamps, tick, last, stated)
        return FrameTable(
            stamps=array("q", stamps),
            keys=array("q", sorted(packet.stamp for packet in packets if packet.key) if marked else []),
            tick=tick,
            rate=rate,
            last=last,
            counted=False,
            size=size,
            even=even,
            by_packet=True,
            seekable=seekable,
            open_groups=codec.codec.canonical_name == "h264" and _has_leading(packets),
        )


def _tell_apart(packets: Sequence[_Packet], codec: VideoCodecContext, containers: set[str]) -> bool:
    """Do the packets tell the frames apart?

    Not where two have the same stamp; where frames come before the first key frame, and a decoder may drop them; where
    the codec has hidden frames; and where frames are reordered in AVI, which stores no presentation stamps.
    """
    stamps = [packet.stamp for packet in packets]
    distinct = len(set(stamps)) == len(stamps) and min(stamps) == stamps[0] and packets[0].key
    return distinct and codec.codec.name not in HIDDEN_FRAMES and not ("avi" in containers and codec.has_b_frames)


def _ambiguous(packets: Sequence[_Packet], codec: VideoCodecContext) -> bool:
    """May the decoder show other frames than the packets' stamps tell, or in another order?"""
    reordered = any(a.stamp > b.stamp for a, b in itertools.pairwise(packets))
    decoded = [packet.decoded for packet in packets if packet.decoded is not None]
    return (
        reordered != codec.has_b_frames  # presentation stamps may be decoding stamps, or step back
        or any(a > b for a, b in itertools.pairwise(decoded))  # recordings joined end to end
        or (codec.codec.canonical_name == "mpeg4" and min(packet.size for packet in packets) < SAME_PICTURE_BYTES)
    )


def _has_leading(packets: Sequence[_Packet]) -> bool:
    """Do packets follow a key frame that are shown before it?"""
    latest = packets[0].stamp
    for packet in packets:
        if packet.key:
            latest = packet.stamp
        elif packet.stamp < latest:
            return True
    return False


def _decoded_stamps(path: Path) -> list[int | None]:
    """The stamps of all frames in the decoder's order."""
    with open_video(path) as (container, stream):
        return [frame.pts for frame in decoded_frames(path, container, stream)]


def _table_of_frames(path: Path) -> FrameTable:
    """The table by decoding the whole file."""
    stamps: list[int] = []
    decoded: list[int] = []
    unstamped, size = False, (0, 0)
    with open_video(path) as (container, stream):
        stated, tick = _stated(path, stream)
        for packet in itertools.chain(packets_of(path, container, stream), [None]):
            decoded += [] if packet is None or packet.dts is None else [packet.dts]
            for frame in stream.codec_context.decode(packet):
                size = size if stamps else _size(path, frame)
                unstamped |= frame.pts is None
                stamps.append(frame.pts or 0)
    counted = unstamped or any(a >= b for a, b in itertools.pairwise(stamps))
    if counted:
        # stamps of a recording in one piece that only stand at the wrong frames are right once they are in order
        if not unstamped and len(set(stamps)) == len(stamps) and decoded == sorted(decoded):
            shown, last = array("q", sorted(stamps)), 1 / (stated * tick)
            rate, even = _rate(shown, tick, last, stated)
            if not even:
                places = array("q", range(len(shown)))
                return FrameTable(places, array("q"), tick, rate, last, True, size, even, shown=shown)
        stamps, tick = list(range(len(stamps))), 1 / stated
    last = 1 / (stated * tick)
    rate, even = _rate(stamps, tick, last, stated)
    return FrameTable(array("q", stamps), array("q"), tick, rate, last, counted, size, even)


def _stated(path: Path, stream: VideoStream) -> tuple[Fraction, Fraction]:
    """What the file states: frames a second on average, and a tick's seconds."""
    rate, tick = stream.average_rate or stream.guessed_rate, stream.time_base
    if not rate or not tick:
        raise UserError(f"video {path} states no frame rate: re-encode it with one")
    return Fraction(rate), tick


def _rate(stamps: Sequence[int], tick: Fraction, last: Fraction, stated: Fraction) -> tuple[Fraction, bool]:
    """Frames a second, and whether frames are evenly spaced. What a container states may be a guess from its first
    frames, or count hidden ones: it holds where every frame is shown when it says.
    """
    if not stamps:
        return stated, True
    frame, tolerance = 1 / (stated * tick), EVEN_SECONDS / tick  # in ticks
    scale = frame.denominator  # whole numbers are quicker than fractions
    apart = max(abs((stamp - stamps[0]) * scale - place * frame.numerator) for place, stamp in enumerate(stamps))
    if apart <= tolerance * scale and last - frame <= tolerance:
        return stated, True
    return len(stamps) / ((stamps[-1] - stamps[0] + last) * tick), False
