"""Decode a video, a file or a folder of pictures, at given frame numbers, exact to the frame."""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av
import torch
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from sevila.data.frame_folder import FrameFolder
from sevila.data.frame_table import FrameTable, frame_table, frames_from, open_video, packets_of
from sevila.data.nal import coding_of
from sevila.data.transforms import to_tensor
from sevila.errors import UserError


class Source(Protocol):
    """The frames of one video."""

    table: FrameTable

    def decode(self, wanted: Sequence[int], size: int) -> dict[int, Tensor]:
        """Frame number -> uint8 RGB [3, size, size], for ascending numbers; without those that do not decode."""
        ...


class Decoder(Protocol):
    """Opens video files. Decoders can be pickled: DataLoader workers get them."""

    def open(self, path: Path) -> Source:
        """UserError, one line that names the file, where it is missing, empty, cut off, damaged, or no video."""
        ...


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


@dataclass(frozen=True)
class PyAv:
    """threads: that decode one file; 0: as many as there are processors. Use 1 where several processes decode."""

    threads: int = 0

    def open(self, path: Path) -> PyAvFile:
        return PyAvFile(path, self.threads)


class PyAvFile:
    """The frames of one file."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        self.threads = threads
        self.table = frame_table(path)

    def decode(self, wanted: Sequence[int], size: int) -> dict[int, Tensor]:
        """Frame number -> uint8 [3, size, size]; without those that do not decode. UserError for a damaged file."""
        numbers = {self.table.stamps[index]: index for index in wanted}
        reformatter = VideoReformatter()

        def convert(frame: VideoFrame) -> Tensor:
            return to_tensor(frame, size, reformatter)

        try:
            found = sparse_frames(self.path, self.table, list(numbers), self.threads, convert)
        except Doubt:
            found = self._plain(set(numbers), convert)
        return {numbers[stamp]: pixels for stamp, pixels in found.items()}

    def _plain(self, stamps: set[int], convert: Convert) -> dict[int, Tensor]:
        """Stamp -> frame, by decoding every frame from the first wanted one's key frame on, in one thread."""
        found: dict[int, Tensor] = {}
        with closing(frames_from(self.path, self.table, min(stamps))) as frames:
            for stamp, frame in frames:
                if stamp in stamps and stamp not in found:
                    found[stamp] = convert(frame)
                    if len(found) == len(stamps):
                        break
        return found


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
        """The frames at these numbers, in the order given (twice where given twice), at size x size."""
        return self.gather(indices, size, self.decode(indices, size))

    def decode(self, indices: Iterable[int], size: int) -> dict[int, Tensor]:
        """Frame number -> uint8 [3, size, size]. Decodes what these frames need, converts only them."""
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
        """Put decoded frames in the order of `indices`."""
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
        if key not in self._items:
            return None
        self._items.move_to_end(key)
        return self._items[key]

    def put(self, key: tuple, value: Tensor) -> None:
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

    A file that changed on disk (by time or size) is read anew.
    """

    def __init__(self, size: int, cache_bytes: int = DEFAULT_CACHE_BYTES, decoder: Decoder | None = None) -> None:
        self.size = size
        self.cache_bytes = cache_bytes
        self.decoder = decoder or PyAv()
        self._start_empty()

    def info(self, path: str | Path) -> VideoInfo:
        """UserError as `VideoReader`."""
        _, reader = self._reader(Path(path))
        return reader.info

    def read(self, path: str | Path, indices: Sequence[int]) -> Frames:
        """Frames at these numbers, in the order given; decodes only those not in the cache."""
        version, reader = self._reader(Path(path))
        cached = {index: self._frames.get((*version, index)) for index in indices}
        new = reader.decode((index for index, pixels in cached.items() if pixels is None), self.size)
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
        if len(self._readers) > KNOWN_VIDEOS:
            self._readers.popitem(last=False)
        return version, self._readers[version]

    def _start_empty(self) -> None:
        self._frames = FrameCache(self.cache_bytes)
        self._readers: OrderedDict[tuple[str, int, int], VideoReader] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # a worker starts with empty caches
        return {"size": self.size, "cache_bytes": self.cache_bytes, "decoder": self.decoder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_empty()
