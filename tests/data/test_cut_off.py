"""A file that was cut off is told by its container's own sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sevila.data.frame_table import missing_bytes


@pytest.mark.parametrize(
    ("name", "options"),
    [("v.mp4", {}), ("v.mp4", {"movflags": "faststart"}), ("v.mov", {}), ("v.mkv", {}), ("v.webm", {})],
)
@pytest.mark.parametrize("cut", [1, 20, 500])
def test_the_missing_tail_is_counted(encode: Callable[..., Path], name: str, options: dict[str, str], cut: int) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = encode(name, 10, codec=codec, container_options=options)
    assert missing_bytes(path) == 0
    path.write_bytes(path.read_bytes()[:-cut])
    assert missing_bytes(path) == cut


def test_a_transport_stream_does_not_say(encode: Callable[..., Path]) -> None:
    path = encode("v.ts", 10)
    path.write_bytes(path.read_bytes()[:-100])
    assert missing_bytes(path) == 0


@pytest.mark.parametrize("name", ["v.mkv", "v.webm"])
@pytest.mark.parametrize(
    "tail", [b"<html>a downloader's text</html>\n", b"\xec\x9f text", b"\x18\x53\x80\x67\x8f", b"\xff"]
)
def test_what_stands_behind_the_end_of_matroska_is_no_part_of_it(
    encode: Callable[..., Path], name: str, tail: bytes
) -> None:
    path = encode(name, 10, codec="libvpx-vp9")
    data = path.read_bytes()
    path.write_bytes(data + tail)
    assert missing_bytes(path) == 0
    path.write_bytes(data + data[:-100])  # a second file is one
    assert missing_bytes(path) == 100


def test_an_unfinished_box_that_no_frame_needs(encode: Callable[..., Path]) -> None:
    path = encode("v.mp4", 10)
    data = path.read_bytes()
    for name, missing in ((b"free", 0), (b"udta", 0), (b"uuid", 0), (b"mfra", 0), (b"moof", 992), (b"mdat", 992)):
        path.write_bytes(data + (1000).to_bytes(4, "big") + name)
        assert missing_bytes(path) == missing


def test_an_avi_of_several_chunks(tmp_path: Path) -> None:
    chunk = b"RIFF" + (1001).to_bytes(4, "little") + bytes(1001) + b"\0"  # padded to an even size
    path = tmp_path / "v.avi"
    path.write_bytes(chunk * 2)
    assert missing_bytes(path) == 0
    path.write_bytes((chunk * 2)[:-8])  # some writers count the 8 bytes of the head, others do not
    assert missing_bytes(path) == 0
    path.write_bytes((chunk * 2)[:-109])
    assert missing_bytes(path) == 100
    for unknown in (bytes(4), b"\xff" * 4):  # as ffmpeg leaves it in what it writes to a pipe
        path.write_bytes(b"RIFF" + unknown + bytes(100))
        assert missing_bytes(path) == 0


def test_a_64_bit_box(tmp_path: Path) -> None:
    box = (1).to_bytes(4, "big") + b"mdat" + (1016).to_bytes(8, "big")
    path = tmp_path / "large.mp4"
    path.write_bytes((16).to_bytes(4, "big") + b"ftyp" + bytes(8) + box + bytes(1000))
    assert missing_bytes(path) == 0
    path.write_bytes((16).to_bytes(4, "big") + b"ftyp" + bytes(8) + box + bytes(900))
    assert missing_bytes(path) == 100


def test_an_open_ended_box_or_segment_promises_nothing(tmp_path: Path) -> None:
    path = tmp_path / "open.mp4"
    path.write_bytes((16).to_bytes(4, "big") + b"ftyp" + bytes(8) + bytes(4) + b"mdat" + bytes(10))
    assert missing_bytes(path) == 0
    path.write_bytes(b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(10))
    assert missing_bytes(path) == 0


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"hello world, this is text", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x00\x00"]
)
def test_other_content_is_none_of_its_business(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    assert missing_bytes(path) == 0


def test_real_videos_are_whole(shared: Path) -> None:
    videos = [path for path in (shared / "videos").iterdir() if path.suffix != ".md"]
    assert len(videos) == 9
    assert {path.name: missing_bytes(path) for path in videos} == {path.name: 0 for path in videos}
