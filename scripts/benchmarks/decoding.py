"""Decoding some frames of long videos: this library against plain uses of PyAV, decord and torchcodec.

`measure` opens each file, reads n evenly spread frames and resizes them, by every way in turn, in an order drawn
anew each round, so that whatever else the machine does falls on all alike. Plain ways get the frame numbers for
nothing; ours makes its table of the file's frames within its time.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from sevila.data.decoding import PyAv
from sevila.data.sampling import uniform_indices
from sevila.data.transforms import RESIZE
from sevila.data.video import VideoReader

Way = Callable[[Path, Sequence[int], int], Any]
SIZES = ((640, 480), (1280, 720), (640, 272))


def made_videos(folder: Path, length: int = 900, sizes: Sequence[tuple[int, int]] = SIZES) -> list[Path]:
    """Films of moving shapes and grain as x264 writes them by default, one a size; a file that is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for width, height in sizes:
        path = folder / f"x264_{width}x{height}_{length}.mp4"
        if not path.is_file():
            unfinished = path.with_suffix(".unfinished.mp4")
            _write(unfinished, width, height, length)
            unfinished.replace(path)
        paths.append(path)
    return paths


def measure(paths: Sequence[Path], n: int = 32, size: int = 224, runs: int = 5) -> list[dict[str, Any]]:
    """One row a file: {video, frames, seconds {way: median}, fastest, ratio, equal, runs}.

    fastest   the plain way that took least
    ratio     its seconds / ours
    equal     ours gave the same bytes as PyAV's plain sequential decoding
    """
    rows = []
    for path in paths:
        reader = VideoReader(path, PyAv(1))
        indices = uniform_indices(reader.length, reader.fps, n)
        equal = np.array_equal(ours(path, indices, size), pyav_sequential(path, indices, size))
        taken: dict[str, list[float]] = {name: [] for name in ways()}
        order = random.Random(0)
        for _ in range(runs):
            for name, way in order.sample(list(ways().items()), len(taken)):
                start = time.perf_counter()
                way(path, indices, size)
                taken[name].append(time.perf_counter() - start)
        seconds = {name: statistics.median(times) for name, times in taken.items()}
        plain = {name: value for name, value in seconds.items() if not name.startswith("ours")}
        fastest = min(plain, key=plain.__getitem__)
        rows.append(
            {
                "video": path.name,
                "frames": reader.length,
                "seconds": seconds,
                "fastest": fastest,
                "ratio": plain[fastest] / seconds["ours"],
                "equal": equal,
                "runs": runs,
            }
        )
    return rows


def ways() -> Mapping[str, Way]:
    """Every way to read frames that is installed here, by name."""
    found: dict[str, Way] = {
        "ours": ours,
        "pyav sequential": pyav_sequential,
        "pyav sequential, 1 thread": lambda *given: pyav_sequential(*given, threads=1),
        "pyav seek": pyav_seek,
    }
    try:
        import decord

        found["decord"] = lambda path, indices, size: (
            decord.VideoReader(str(path), width=size, height=size).get_batch(indices).asnumpy()
        )
    except ImportError:
        pass  # optional: its row is left out
    try:
        from torchcodec.decoders import VideoDecoder
        from torchcodec.transforms import Resize

        found["torchcodec"] = lambda path, indices, size: (
            VideoDecoder(str(path), num_ffmpeg_threads=0, transforms=[Resize((size, size))])
            .get_frames_at(list(indices))
            .data
        )
    except (ImportError, RuntimeError):
        pass  # optional: it, or the FFmpeg that it needs
    return found


def ours(path: Path, indices: Sequence[int], size: int) -> Tensor:
    """uint8 [T, 3, size, size], the making of the file's table included."""
    return VideoReader(path).read(indices, size).pixels


def pyav_sequential(path: Path, indices: Sequence[int], size: int, threads: int = 0) -> Tensor:
    """The plainest loop: decode from the start, keep the frames that are asked for."""
    kept: dict[int, Tensor] = {}
    with av.open(str(path)) as container:
        stream = _threaded(container.streams.video[0], threads)
        for place, frame in enumerate(container.decode(stream)):
            if place in indices:
                kept[place] = _resized(frame, size)
                if place == max(indices):
                    break
    return torch.stack([kept[index] for index in indices])


def pyav_seek(path: Path, indices: Sequence[int], size: int, threads: int = 0) -> Tensor:
    """Seek to the key frame before each frame, and decode up to it; go on where that is the frame before."""
    with av.open(str(path)) as container:
        stream = _threaded(container.streams.video[0], threads)
        step = 1 / (stream.average_rate * stream.time_base)
        start = stream.start_time or 0
        frames, last, key = container.decode(stream), None, None
        kept = []
        for index in indices:
            target = start + round(index * step)
            if last is not None and last.pts > target:
                raise ValueError("numbers must ascend")
            if last is None or index - key > 250:  # x264's longest group of pictures
                container.seek(target, stream=stream)
                frames, key = container.decode(stream), index
                last = next(frames)
            while last.pts < target:
                last = next(frames)
            kept.append(_resized(last, size))
    return torch.stack(kept)


def _threaded(stream: Any, threads: int) -> Any:
    stream.thread_count = threads
    if threads != 1:
        stream.thread_type = "AUTO"
    return stream


def _resized(frame: av.VideoFrame, size: int) -> Tensor:
    rgb = frame.reformat(size, size, "rgb24", interpolation=RESIZE, dst_color_range="JPEG", threads=1)
    return torch.from_numpy(rgb.to_ndarray()).permute(2, 0, 1)


def _write(path: Path, width: int, height: int, length: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in _pictures(width, height, length):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _pictures(width: int, height: int, length: int) -> Iterator[np.ndarray]:
    """A soft ground that pans, eight shapes that drift over it, film grain."""
    rng = np.random.default_rng(0)
    ground = rng.random((height // 8 + 40, width // 8 + 80, 3)).repeat(8, 0).repeat(8, 1) * 120 + 50
    for axis in (0, 1):
        ground = (ground + np.roll(ground, 3, axis) + np.roll(ground, -3, axis)) / 3
    ground = ground.astype(np.int16)
    grain = [(rng.standard_normal((height, width, 1)) * 3).astype(np.int16) for _ in range(8)]
    shapes = [(rng.random(2), rng.random(2) / 50 - 0.01, rng.integers(20, 90), rng.integers(0, 255, 3)) for _ in grain]
    for n in range(length):
        x, y = int(60 + 50 * np.sin(n / 70)), int(60 + 50 * np.cos(n / 90))
        picture = ground[y : y + height, x : x + width] + grain[n % len(grain)]
        for place, speed, half, colour in shapes:
            cx, cy = (np.abs((place + speed * n) % 2 - 1) * (width, height)).astype(int)
            picture[max(cy - half, 0) : cy + half, max(cx - half, 0) : cx + half] = colour
        yield picture.clip(0, 255).astype(np.uint8)
