"""Videos as folders of pictures."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sevila.data import video
from sevila.data.folders import picture_files
from sevila.data.sampling import uniform_indices
from sevila.data.store_files import ContentHashes
from sevila.data.video import CachedVideos, FrameFolder, VideoReader, probe
from sevila.errors import UserError

Numbers = Callable[[torch.Tensor], list[int]]


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """pictures(name, count) draws a folder of them; picture i shows the 8 bits of i as bars."""

    def draw(name: str, count: int, pattern: str = "{:05d}.png", first: int = 1) -> Path:
        folder = tmp_path / "videos" / name
        folder.mkdir(parents=True)
        for i in range(count):
            row = bytes(255 * (i >> bit & 1) for bit in reversed(range(8)))
            image = Image.frombytes("L", (8, 1), row).resize((96, 64), Image.Resampling.NEAREST).convert("RGB")
            image.save(folder / pattern.format(first + i), quality=95)
        return folder

    return draw


def fault(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        VideoReader(path).read([0], 32)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_folder_is_a_video_at_three_frames_a_second(pictures: Callable[..., Path]) -> None:
    info = probe(pictures("s01e02", 30))
    assert (info.length, info.fps, info.width, info.height, info.duration) == (30, 3.0, 96, 64, 10.0)


@pytest.mark.parametrize("pattern", ["{:05d}.png", "{:05d}.jpg", "{}.jpeg", "frame_{:03d}.JPG"])
def test_the_frames_asked_for_in_the_order_asked(pictures: Callable[..., Path], numbers: Numbers, pattern: str) -> None:
    frames = VideoReader(pictures("v", 12, pattern)).read([9, 0, 11, 9], 64)
    assert numbers(frames.pixels) == [9, 0, 11, 9] and frames.indices == (9, 0, 11, 9)
    assert frames.times == (3.0, 0.0, pytest.approx(11 / 3), 3.0)


def test_numbers_may_begin_anywhere(pictures: Callable[..., Path], numbers: Numbers) -> None:
    assert numbers(VideoReader(pictures("v", 4, first=0)).read([0, 3], 32).pixels) == [0, 3]


def test_the_cache_serves_folders_too(pictures: Callable[..., Path], numbers: Numbers) -> None:
    videos, folder = CachedVideos(32), pictures("v", 9)
    indices = uniform_indices(videos.info(folder).length, videos.info(folder).fps, 4, (1.0, 3.0))
    assert indices == [3, 5, 6, 8] or len(indices) == 4
    assert numbers(videos.read(folder, indices).pixels) == indices
    (folder / "00010.png").write_bytes((folder / "00001.png").read_bytes())
    assert videos.info(folder).length == 10  # the folder changed


@pytest.mark.parametrize(("place", "text", "fps"), [("v", "6", 6.0), (".", "30000/1001\n", 30000 / 1001)])
def test_a_file_states_another_rate(pictures: Callable[..., Path], place: str, text: str, fps: float) -> None:
    folder = pictures("v", 6)
    (folder.parent / place / "fps.txt").write_text(text)
    assert probe(folder).fps == pytest.approx(fps)


@pytest.mark.parametrize(
    "text", ["", "fast", "0", "-3", "3/0", "1e-400000", "1e999999999", "nan", "inf", "9" * 5000, "1/" + "9" * 5000]
)
def test_a_rate_that_is_none(pictures: Callable[..., Path], text: str) -> None:
    folder = pictures("v", 2)
    (folder / "fps.txt").write_text(text)
    assert "expected the frames a second" in fault(folder)
    assert len(fault(folder)) < 400


def test_faulty_folders(pictures: Callable[..., Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "readme.txt").write_text("no picture")
    assert "is a folder without frames" in fault(empty)
    gap = pictures("gap", 5)
    (gap / "00003.png").unlink()
    assert "00004.png comes after 00002.png: frames are missing" in fault(gap)
    twice = pictures("twice", 2)
    (twice / "2.jpg").write_bytes(b"")
    assert "have the same number" in fault(twice)
    cut = pictures("cut", 3)
    whole = (cut / "00001.png").read_bytes()
    (cut / "00001.png").write_bytes(whole[: len(whole) // 2])
    assert "00001.png is no whole jpg or png picture" in fault(cut)
    (cut / "00001.png").write_bytes(b"GIF89a")
    assert "00001.png is no whole jpg or png picture" in fault(cut)


def test_files_that_begin_with_a_dot_are_no_frames(pictures: Callable[..., Path], numbers: Numbers) -> None:
    folder = pictures("v", 3, "{:05d}.jpg")
    for name in ("._00001.jpg", "._00002.jpg", ".00009.jpg"):
        (folder / name).write_bytes(b"no picture")
    assert numbers(VideoReader(folder).read(range(3), 32).pixels) == [0, 1, 2]
    assert probe(folder).length == 3


def test_pipes_are_refused(pictures: Callable[..., Path]) -> None:
    folder = pictures("v", 3)
    os.mkfifo(folder / "00004.png")
    assert "00004.png is not a file" in fault(folder)
    (folder / "00004.png").unlink()
    os.mkfifo(folder / "fps.txt")
    assert "fps.txt: is a pipe or device" in fault(folder)
    with pytest.raises(UserError, match=r"fps\.txt: is a pipe or device"):
        ContentHashes(folder.parent / "store").of(folder)


GREYS = np.arange(0, 256, dtype=np.uint8).reshape(16, 16).repeat(2, 0).repeat(2, 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_picture_is_scaled_to_eight_bits(tmp_path: Path, mode: str) -> None:
    (tmp_path / "v").mkdir()
    if mode == "I;16":  # a PNG of 16 bits grey: value v of 8 bits is 257 * v of 16
        image = Image.fromarray(GREYS.astype(np.uint16) * 257)
    elif mode in ("P", "PA"):
        image = Image.fromarray(GREYS, "L").convert("RGB").quantize(256)
    else:
        image = Image.fromarray(GREYS, "L").convert("RGB").convert(mode)
    name = "1.jpg" if mode == "CMYK" else "1.png"
    image.save(tmp_path / "v" / name, **({"quality": 100} if mode == "CMYK" else {}))
    pixels = VideoReader(tmp_path / "v").read([0], 32).pixels[0]
    expected = np.asarray(image.convert("RGB")) if mode in ("1", "P", "PA") else GREYS[..., None].repeat(3, 2)
    assert (pixels.permute(1, 2, 0).int() - torch.from_numpy(expected.astype(int))).abs().max() <= 3
    assert pixels.float().mean() == pytest.approx(127.5, abs=3)


def test_colours_of_sixteen_bits(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    deep = np.stack([GREYS.astype(">u2") * 257] * 3, -1)  # written by hand: Pillow writes no such picture
    rows = b"".join(b"\0" + row.tobytes() for row in deep.astype(">u2"))
    head = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    (tmp_path / "v/1.png").write_bytes(data)
    pixels = VideoReader(tmp_path / "v").read([0], 32).pixels[0, 0]
    assert (pixels.int() - torch.from_numpy(GREYS.astype(int))).abs().max() <= 1


def test_a_kind_of_picture_that_is_not_known_is_refused(
    pictures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pictures("v", 1)
    floats = Image.new("F", (8, 8))
    monkeypatch.setattr(video.ImageOps, "exif_transpose", lambda image: floats)
    assert "00001.png is a picture of the kind F, which is not read: save it as RGB" in fault(folder)


def test_only_wanted_pictures_are_opened(pictures: Callable[..., Path]) -> None:
    folder = pictures("v", 5)
    (folder / "00003.png").write_bytes(b"")
    assert list(FrameFolder(folder).decode([0, 1, 3], (16, 16))) == [0, 1, 3]
    assert [file.name for file in picture_files(folder)][:2] == ["00001.png", "00002.png"]
