"""Decoding, to the frame: real files against a sequential decode, made ones by their pictures' numbers."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter

from sevila.data import decoding
from sevila.data import frame_table as streams
from sevila.data.sampling import uniform_indices
from sevila.data.transforms import to_tensor
from sevila.data.video import CachedVideos, FrameCache, VideoInfo, VideoReader, probe
from sevila.errors import UserError
from tests.conftest import numbered

Encode = Callable[..., Path]
Numbers = Callable[[torch.Tensor], list[int]]


def remux(source: Path, name: str, change: Callable[[av.Packet, int], av.Packet | None]) -> Path:
    """The packets of a file in another one beside it, each changed by `change`, which may give another in its place."""
    path = source.with_name(name)
    with av.open(str(source)) as read, av.open(str(path), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for place, packet in enumerate(read.demux(video=0)):
            if packet.size:
                packet = change(packet, place) or packet
                packet.stream = stream
                write.mux(packet)
    return path


def empty_like(packet: av.Packet, data: bytes) -> av.Packet:
    other = av.Packet(data)
    other.pts, other.dts, other.duration, other.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    return other


# name: frames, frames a second, width, height, seconds
REAL = {
    "a.mp4": (209, 30.0, 1920, 1080, 209 / 30),
    "b.avi": (150, 150 * 30 / 151, 480, 270, 151 / 30),  # the second frame is shown for two ticks
    "bigbuckbunny.mp4": (132, 25.0, 1280, 720, 5.28),
    "bikes.mp4": (250, 25.0, 640, 272, 10.0),
    "carphone_pristine.mp4": (120, 30000 / 1001, 176, 144, 4.004),
    "cup.mp4": (217, 26.777, 640, 480, 217 / 26.777),
    "movie-hello.mpeg": (249, 30000 / 1001, 640, 480, 8.3083),
    "tree.avi": (68, 68 / (444 * 0.066667), 320, 240, 444 * 0.066667),  # its header promises 444 frames
    "world.mp4": (901, 30.0, 480, 270, 901 / 30),
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_equals_its_sequential_decode(shared: Path, name: str) -> None:
    path = shared / "videos" / name
    length, fps, width, height, seconds = REAL[name]
    reader = VideoReader(path)
    info = reader.info
    assert (reader.length, info.width, info.height) == (length, width, height)
    assert (reader.fps, info.duration) == pytest.approx((fps, seconds))

    picks = [
        sorted(random.Random(name).sample(range(length), 4)),
        [length - 1],
        [length // 2, 0, length // 2],
    ]
    sequential, times = {}, []
    with av.open(str(path)) as container:
        for place, frame in enumerate(container.decode(video=0)):
            times.append(frame.time)
            if any(place in pick for pick in picks):
                sequential[place] = to_tensor(frame, (32, 32), VideoReformatter())
    assert len(times) == length
    for pick in picks:
        frames = reader.read(pick, 32)
        assert frames.indices == tuple(pick)
        assert frames.times == pytest.approx([times[index] - times[0] for index in pick])
        assert torch.equal(frames.pixels, torch.stack([sequential[index] for index in pick]))
    with pytest.raises(UserError, match=f"{name} has no frame {length}: it has {length}, counted from 0"):
        reader.read([length], 32)


B_FRAMES = {"bf": "3", "g": "12", "qp": "20"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("plain.mp4", {"options": {"bf": "0", "g": "10"}}),
        ("b_frames.mp4", {"options": B_FRAMES}),
        ("b_frames.mkv", {"options": B_FRAMES}),
        ("b_frames.avi", {"options": B_FRAMES}),  # no presentation stamps
        ("b_frames.h264", {"options": B_FRAMES}),  # no stamps at all
        ("b_frames.ts", {"options": B_FRAMES}),
        ("open_gop.mp4", {"options": {**B_FRAMES, "x264-params": "open-gop=1"}}),
        ("open_gop.mkv", {"options": {**B_FRAMES, "x264-params": "open-gop=1"}}),
        ("intra_refresh.mkv", {"options": {"g": "12", "x264-params": "intra-refresh=1"}}),
        (
            "fragments.mp4",
            {"options": B_FRAMES, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
        ),
        (
            "hidden_frames.webm",
            {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "1M"}},
        ),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": {"lag-in-frames": "16", "g": "12", "cpu-used": "8"}}),
        ("mpeg4.avi", {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}),
        ("cinepak.avi", {"codec": "cinepak", "pixel_format": "rgb24"}),
        ("late.mp4", {"options": B_FRAMES, "stamps": [1000 + 40 * n for n in range(60)]}),
        ("ten_bits.mp4", {"pixel_format": "yuv420p10le"}),
        ("full_range.mp4", {"pixel_format": "yuvj444p"}),
        ("grey.mkv", {"codec": "ffv1", "pixel_format": "gray"}),
    ],
)
def test_every_picture_is_found_by_its_number(
    encode: Encode, numbers: Numbers, name: str, settings: dict[str, object]
) -> None:
    reader = VideoReader(encode(name, 60, **settings))
    assert reader.length == 60
    assert numbers(reader.read(range(60), 32).pixels) == list(range(60))
    for picks in ([59], [13], [12, 11], [35, 36, 37], [50, 3, 50, 49], [24]):
        assert numbers(reader.read(picks, 32).pixels) == picks


def test_variable_frame_rate(encode: Encode, numbers: Numbers) -> None:
    stamps = [7 * n * n for n in range(40)]
    for name in ("v.mp4", "v.mkv"):
        reader = VideoReader(encode(name, 40, stamps=stamps, options=B_FRAMES))
        assert reader.length == 40
        assert reader.times == pytest.approx([stamp / 1000 for stamp in stamps], abs=1e-3)
        frames = reader.read([5, 30, 39], 32)
        assert numbers(frames.pixels) == [5, 30, 39]
        assert frames.times == pytest.approx([0.175, 6.3, 10.647], abs=1e-3)


MPEG_B_FRAMES = {"bf": "2", "g": "12", "b": "4M"}
SLIDES = [33 * n if n < 30 else 1000 * (n - 28) for n in range(60)]  # milliseconds: first quick, then one a second


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("v.mp4", {"options": B_FRAMES}),
        ("v.mov", {"options": {"bf": "0"}}),
        ("v.mkv", {"options": {"bf": "0"}}),
        ("v.webm", {"codec": "libvpx-vp9"}),
        ("hidden.webm", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "1M"}}),
        ("v.ts", {"options": B_FRAMES}),
    ],
)
def test_where_the_rate_varies_it_is_length_by_duration(
    encode: Encode, numbers: Numbers, name: str, settings: dict[str, object]
) -> None:
    reader = VideoReader(encode(name, 60, stamps=SLIDES, rate=30, **settings))
    info = reader.info
    assert info.fps == pytest.approx(60 / info.duration) and 31 < info.duration < 32.1
    assert info.times == reader.times == pytest.approx([stamp / 1000 for stamp in SLIDES], abs=0.002)
    frames = reader.read(uniform_indices(info.length, info.fps, 4, (9.9, 20.1), info.times), 32)
    assert all(9 <= time <= 20.1 for time in frames.times)
    assert numbers(frames.pixels) == list(frames.indices) == [38, 40, 43, 46]


@pytest.mark.parametrize("rate", [24000 / 1001, 12.5, 0.5, 60])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi", "v.ts"])
def test_a_constant_rate_is_the_stated_one(encode: Encode, name: str, rate: float) -> None:
    exact = Fraction(rate).limit_denominator(1001)
    options = {"bf": "0"} if name == "v.avi" else B_FRAMES
    path = encode(name, 40, stamps=range(40), rate=exact, clock=1 / exact, options=options)
    info = probe(path)
    assert info.fps == pytest.approx(rate, rel=1e-6) and info.times is None


def test_the_rate_does_not_count_hidden_frames(encode: Encode, numbers: Numbers) -> None:
    """As a cut by stream copy leaves it: the container's rate counts what its edit list hides."""
    reader = VideoReader(encode("v.mp4", 60, stamps=[200 * n - 6000 for n in range(60)], rate=5, options=B_FRAMES))
    assert reader.length == 30 and reader.fps == pytest.approx(5) and reader.info.duration == pytest.approx(6)
    assert numbers(reader.read(uniform_indices(30, reader.fps, 2, (2.0, 4.0), reader.info.times), 32).pixels) == [
        42,
        47,
    ]


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv", "v.ts", "v.flv"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mpeg2video"])
def test_decoding_stamps_in_the_place_of_presentation_stamps(
    encode: Encode, numbers: Numbers, name: str, codec: str
) -> None:
    """The packets of a file with B-frames, each shown when it is decoded; as `ffmpeg -i v.avi -c copy` writes them."""
    if (name, codec) in (("v.flv", "mpeg4"), ("v.flv", "mpeg2video"), ("v.ts", "mpeg4")):
        pytest.skip("no such file can be written")
    plain = encode("plain.mp4", 60, codec=codec, options=MPEG_B_FRAMES, stamps=range(60), clock=Fraction(1, 25))
    path = remux(plain, name, lambda packet, place: setattr(packet, "pts", packet.dts))
    reader = VideoReader(path)
    with av.open(str(path)) as container:
        shown = numbers(torch.stack([to_tensor(f, (32, 32), VideoReformatter()) for f in container.decode(video=0)]))
    assert shown == sorted(shown) and len(shown) >= 58  # an mp4 hides what its edit list puts before 0
    assert numbers(reader.read(range(reader.length), 32).pixels) == shown
    assert numbers(reader.read([50, 7, 31], 32).pixels) == [shown[50], shown[7], shown[31]]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_decoding_stamps_that_are_not_evenly_spaced(encode: Encode, numbers: Numbers, name: str) -> None:
    """The picture at 20 is shown for ten seconds."""
    stamps = [n if n <= 20 else n + 250 for n in range(60)]
    plain = encode("plain.mp4", 60, stamps, options=MPEG_B_FRAMES, clock=Fraction(1, 25))
    path = remux(plain, name, lambda packet, place: setattr(packet, "pts", packet.dts))
    reader = VideoReader(path)
    length, info = reader.length, reader.info
    shown = numbers(reader.read(range(length), 32).pixels)
    assert shown == sorted(shown) and length >= 58  # an mp4 hides what its edit list puts before 0
    assert info.duration == pytest.approx(309 / 25, rel=0.03) and info.fps == pytest.approx(length / info.duration)
    steps = [later - earlier for earlier, later in itertools.pairwise(info.times)]
    assert max(steps) == pytest.approx(251 / 25, abs=0.01) and abs(steps.index(max(steps)) - 20) <= 3  # the delay


@pytest.mark.parametrize(("codec", "name"), [("libx264", "ts"), ("mpeg2video", "ts"), ("mpeg2video", "mpg")])
@pytest.mark.parametrize("b_frames", ["0", "2"])
@pytest.mark.parametrize("start", [0, 1013, 3000])  # milliseconds of the second one's first stamp
def test_recordings_joined_end_to_end(
    encode: Encode, numbers: Numbers, codec: str, b_frames: str, start: int, name: str
) -> None:
    def later(packet: av.Packet, place: int) -> None:
        shift = round(Fraction(start, 1000) / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift

    options, clock = {**MPEG_B_FRAMES, "bf": b_frames}, Fraction(1, 25)
    pictures = [numbered(number) for number in range(100, 160)]
    first = encode(f"first.{name}", 60, range(60), codec, options=options, clock=clock)
    second = encode("second.mp4", pictures, range(60), codec, options=options, clock=clock)
    path = first.with_name(f"v.{name}")
    path.write_bytes(first.read_bytes() + remux(second, f"second.{name}", later).read_bytes())
    reader = VideoReader(path)
    assert numbers(reader.read(range(reader.length), 32).pixels) == [*range(60), *range(100, 160)]
    assert numbers(reader.read([15, 45, 75, 105], 32).pixels) == [15, 45, 115, 145]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_packet_without_bytes_repeats_the_picture(encode: Encode, numbers: Numbers, codec: str) -> None:
    def emptied(packet: av.Packet, place: int) -> av.Packet | None:
        return empty_like(packet, b"") if place in (5, 6, 20) else None

    path = remux(encode("plain.mp4", 40, codec=codec, options={"bf": "0", "g": "1"}), "v.nut", emptied)
    kept = [n for n in range(40) if n not in (5, 6, 20)]
    reader = VideoReader(path)
    assert reader.length == 37
    assert reader.times == pytest.approx([n / 25 for n in kept])
    assert numbers(reader.read(range(37), 32).pixels) == kept
    assert numbers(reader.read([4, 5, 17, 18, 36], 32).pixels) == [4, 7, 19, 21, 39]


@pytest.mark.parametrize("name", ["v.avi", "v.mp4"])
def test_a_packet_that_says_the_same_picture_again(encode: Encode, numbers: Numbers, name: str) -> None:
    """MPEG-4's VOP that is not coded (ISO 14496-2, 6.2.5: vop_coded 0): no frame comes out for it."""
    same = bytes.fromhex("000001b6") + int("0101000001001111", 2).to_bytes(2, "big")

    def repeated(packet: av.Packet, place: int) -> av.Packet | None:
        return empty_like(packet, same) if place in (5, 6, 20) else None

    plain = encode("plain.mp4", 40, range(40), "mpeg4", options={"bf": "0", "g": "1"}, clock=Fraction(1, 25))
    path = remux(plain, name, repeated)
    reader = VideoReader(path)
    assert reader.length == 37
    assert numbers(reader.read([4, 21, 36], 32).pixels) == [4, 24, 39]


@pytest.mark.parametrize("name", ["v.mkv", "v.webm"])
def test_a_tail_behind_matroska_is_passed_over(encode: Encode, numbers: Numbers, name: str) -> None:
    path = encode(name, 60, codec="libvpx-vp9")
    path.write_bytes(path.read_bytes() + b"Saved by a downloader from https://example.org\n")
    assert numbers(VideoReader(path).read(range(60), 32).pixels) == list(range(60))


@pytest.mark.parametrize("box", [b"free", b"mdat"])
def test_an_unfinished_last_box_is_harmless_where_all_pictures_are_there(
    encode: Encode, numbers: Numbers, box: bytes
) -> None:
    path = encode("v.mp4", 60, container_options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    if box == b"mdat":  # the size that stands before its name
        at = data.index(b"mdat") - 4
        data[at : at + 4] = (len(data) - at + 100).to_bytes(4, "big")
    else:
        data += (1000).to_bytes(4, "big") + box
    path.write_bytes(data)
    assert numbers(VideoReader(path).read(range(60), 32).pixels) == list(range(60))
    path.write_bytes(data[:-200] if box == b"mdat" else path.read_bytes()[:-300])
    assert "is cut off" in fault(path)


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.mp4")
    assert "v.mp4 is a pipe or device: name a file" in fault(tmp_path / "v.mp4")
    for path in ("a" * 300, "a\0b"):
        with pytest.raises(UserError, match=r"does not exist|cannot be opened"):
            VideoReader(path)
        with pytest.raises(UserError, match="cannot be opened"):
            CachedVideos(32).info(path)


def test_an_edit_list_hides_frames_before_zero(encode: Encode, numbers: Numbers) -> None:
    path = encode("v.mp4", 60, stamps=[40 * n - 600 for n in range(60)], options=B_FRAMES)
    reader = VideoReader(path)
    assert reader.length == 45  # pictures 0 to 14 lie before the start
    assert numbers(reader.read([0, 1, 20, 44], 32).pixels) == [15, 16, 35, 59]
    assert numbers(reader.read([44], 32).pixels) == [59]
    assert reader.times[:2] == pytest.approx([0, 0.04])


def test_a_negative_start_counts_from_the_first_frame(encode: Encode, numbers: Numbers) -> None:
    stamps = [40 * n - 400 for n in range(30)]
    path = encode("v.ts", 30, stamps=stamps, container_options={"avoid_negative_ts": "disabled"})
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time < 0
    frames = VideoReader(path).read([0, 10, 29], 32)
    assert numbers(frames.pixels) == [0, 10, 29]
    assert frames.times == pytest.approx([0, 0.4, 1.16])


COLOURS = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], dtype=np.uint8)


def with_display_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Overwrite the matrix in the mp4's track header: pixel (x, y) is to be shown at (ax + cy, bx + dy)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    for offset, value in ((0, a), (4, b), (12, c), (16, d)):
        data[at + offset : at + offset + 4] = round(value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), COLOURS),
        ((0, 1, -1, 0), np.rot90(COLOURS, -1)),  # a quarter turn clockwise, as telephones record
        ((-1, 0, 0, -1), np.rot90(COLOURS, 2)),
        ((0, -1, 1, 0), np.rot90(COLOURS, 1)),
        ((-1, 0, 0, 1), COLOURS[:, ::-1]),
        ((1, 0, 0, -1), COLOURS[::-1]),
        ((0, 1, 1, 0), COLOURS.transpose(1, 0, 2)),
    ],
)
def test_rotation_flags_are_obeyed(encode: Encode, matrix: tuple[int, ...], shown: np.ndarray) -> None:
    picture = COLOURS.repeat(32, 0).repeat(48, 1)
    reader = VideoReader(with_display_matrix(encode("v.mp4", [picture] * 3), *matrix))
    pixels = reader.read([1], 32).pixels[0]
    corners = pixels[:, 8::16, 8::16].permute(1, 2, 0)
    assert (corners.int() - torch.from_numpy(shown.astype(int))).abs().max() < 12
    turned = matrix[0] == 0
    assert (reader.info.width, reader.info.height) == ((64, 96) if turned else (96, 64))


def test_an_aslant_picture_is_refused(encode: Encode) -> None:
    path = with_display_matrix(encode("v.mp4", 3), 0.7071, 0.7071, -0.7071, 0.7071)
    with pytest.raises(UserError, match=r"v\.mp4: the video is to be shown turned by 45 degrees"):
        VideoReader(path)


def test_probe(encode: Encode) -> None:
    assert probe(encode("v.mp4", 50)) == VideoInfo(length=50, fps=25.0, width=96, height=64, duration=2.0)
    assert probe(encode("one.mp4", 1)) == VideoInfo(length=1, fps=25.0, width=96, height=64, duration=0.04)


def test_colours_and_shape(encode: Encode) -> None:
    reader = VideoReader(encode("v.mp4", [COLOURS.repeat(32, 0).repeat(48, 1)] * 2, options={"qp": "1"}))
    frames = reader.read([0, 1], 16)
    assert frames.pixels.shape == (2, 3, 16, 16)
    assert frames.pixels.dtype == torch.uint8
    assert frames.pixels[0, :, 2, 2].tolist() == pytest.approx([255, 0, 0], abs=6)
    assert frames.pixels[1, :, 13, 2].tolist() == pytest.approx([0, 0, 255], abs=6)
    assert reader.read([], 16).pixels.shape == (0, 3, 16, 16)


def test_only_wanted_frames_are_converted(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []

    def counting(*arguments: object) -> torch.Tensor:
        converted.append(1)
        return to_tensor(*arguments)

    monkeypatch.setattr(decoding, "to_tensor", counting)
    VideoReader(encode("v.mp4", 40)).read([3, 30, 3], 32)
    assert len(converted) == 2


@pytest.mark.parametrize(
    ("matrix", "shown", "shape"),
    [((1, 0, 0, 1), COLOURS, (16, 24)), ((0, 1, -1, 0), np.rot90(COLOURS, -1), (24, 16))],
)
def test_pictures_in_the_videos_own_shape(
    encode: Encode, matrix: tuple[int, ...], shown: np.ndarray, shape: tuple[int, int]
) -> None:
    path = with_display_matrix(encode("v.mp4", [COLOURS.repeat(32, 0).repeat(48, 1)] * 3), *matrix)
    reader = VideoReader(path)
    pictures = reader.pictures([2, 0, 2], longest=24)
    assert pictures.shape == (3, 3, *shape) and pictures.dtype == torch.uint8
    height, width = shape
    corners = pictures[0][:, height // 4 :: height // 2, width // 4 :: width // 2].permute(1, 2, 0)
    assert (corners.int() - torch.from_numpy(shown.astype(int))).abs().max() < 12
    assert max(reader.pictures([1], longest=500).shape) == 96  # never enlarged
    with pytest.raises(UserError, match="has no frame 3"):
        reader.pictures([3], longest=24)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_decoding_starts_at_the_key_frame_that_is_needed(
    encode: Encode, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = VideoReader(encode(name, 60, options={"g": "10", "bf": "2", "sc_threshold": "0"}))
    sent, send = [], decoding._Run.send

    def recording(run: decoding._Run, packet: av.Packet) -> None:
        sent.append(round(float((packet.pts - reader._table.stamps[0]) * packet.time_base) * 25))
        send(run, packet)

    monkeypatch.setattr(decoding._Run, "send", recording)
    assert len(reader._table.keys) == 6
    reader.read([57], 32)
    assert sent[0] == min(sent) == 50


# Faults. Each is one line that names the file.


def fault(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        VideoReader(path).read([0], 32)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


def test_missing_empty_folder_and_text(tmp_path: Path) -> None:
    assert "does not exist" in fault(tmp_path / "none.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "is empty" in fault(tmp_path / "empty.mp4")
    assert "is a folder" in fault(tmp_path)
    for name in ("text.mp4", "text.txt"):  # FFmpeg would show the second as a film of a terminal
        (tmp_path / name).write_text("no video\n" * 500)
        assert "is not a video" in fault(tmp_path / name)


def test_a_playlist_is_not_followed(encode: Encode, tmp_path: Path) -> None:
    encode("v.mp4", 3)
    for name, text in (
        ("a.mp4", "ffconcat version 1.0\nfile v.mp4\n"),
        ("b.m3u8", "#EXTM3U\n#EXTINF:1\nv.mp4\n"),
    ):
        (tmp_path / name).write_text(text)
        assert "is not a video" in fault(tmp_path / name)


def test_a_name_is_no_protocol(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode("v.mp4", 3)
    monkeypatch.chdir(path.parent)
    path.rename("concat:v.mp4")
    assert VideoReader("concat:v.mp4").length == 3


@pytest.mark.parametrize("name", ["title.mp4", "title.mkv", "title.avi"])
def test_metadata_that_is_no_utf8(encode: Encode, numbers: Numbers, name: str) -> None:
    path = encode(name, 6)
    content = path.read_bytes()
    assert b"Lavf" in content  # FFmpeg names itself in the file's metadata
    path.write_bytes(content.replace(b"Lavf", b"L\xe4\xfff").replace(b"Lavc", b"L\xe4\xffc"))
    with pytest.raises(UnicodeDecodeError) if streams.ANY_METADATA else nullcontext(), av.open(str(path)) as container:
        _ = container.metadata, container.streams.video[0].metadata
    assert numbers(VideoReader(path).read([1, 4], 32).pixels) == [1, 4]


def test_sound_alone(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "has no video stream" in fault(path)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("v.mp4", {}),
        ("faststart.mp4", {"container_options": {"movflags": "faststart"}}),
        ("v.mkv", {}),
        ("v.avi", {"codec": "mpeg4"}),
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_file_that_was_cut_off(encode: Encode, name: str, settings: dict[str, object], share: float) -> None:
    path = encode(name, 60, **settings)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "is cut off" in fault(path)


def test_frames_that_do_not_decode_are_named(encode: Encode) -> None:
    path = encode("v.mkv", 20, options={"bf": "0", "g": "10", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        last = [bytes(packet) for packet in container.demux(video=0) if packet.size][-10:]
    data = path.read_bytes()
    for packet in last:  # the packets are still there, but hold nothing
        assert data.count(packet) == 1
        data = data.replace(packet, bytes(len(packet)))
    path.write_bytes(data)
    reader = VideoReader(path)
    assert reader.length == 20
    assert reader.read([3, 9], 32).indices == (3, 9)
    with pytest.raises(UserError, match=r"v\.mkv.*damaged"):
        reader.read([3, 15], 32)


@pytest.mark.parametrize("seed", range(8))
def test_a_scrambled_file_decodes_or_is_a_user_error(encode: Encode, seed: int) -> None:
    path = encode(("v.mp4", "v.mkv", "v.ts", "v.avi")[seed % 4], 40, options=B_FRAMES)
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(60):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data)
    try:
        reader = VideoReader(path)
        frames = reader.read(range(reader.length), 16)
    except UserError as error:
        assert path.name in str(error) and "\n" not in str(error)
    else:
        assert frames.pixels.shape[0] == reader.length


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_no_file_stays_open(encode: Encode, tmp_path: Path) -> None:
    path = encode("v.mp4", 30, options={"g": "10"})
    (tmp_path / "text.mp4").write_text("no video" * 100)
    before = len(os.listdir("/proc/self/fd"))
    readers = [VideoReader(path) for _ in range(5)]
    for reader in readers:
        reader.read([25], 16)
    fault(tmp_path / "text.mp4")
    assert len(os.listdir("/proc/self/fd")) == before


# Caches.


def filled(value: int) -> torch.Tensor:
    return torch.full((10,), value, dtype=torch.uint8)


def test_the_least_recently_used_go_first() -> None:
    cache = FrameCache(30)
    for key in range(3):
        cache.put((key,), filled(key))
    assert cache.get((0,)) is not None  # 0 is now the last to go
    cache.put((3,), filled(3))
    assert cache.get((1,)) is None
    assert [cache.get((key,)) is not None for key in (0, 2, 3)] == [True] * 3
    assert (len(cache), cache.held) == (3, 30)
    cache.put((4,), torch.zeros(31, dtype=torch.uint8))  # larger than the whole cache
    assert (len(cache), cache.held) == (3, 30)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The frame numbers of each call that really decoded."""
    calls: list[list[int]] = []
    original = VideoReader.decode

    def recording(reader: VideoReader, indices: Sequence[int], size: int) -> dict[int, torch.Tensor]:
        found = original(reader, indices, size)
        calls.append(sorted(found))
        return found

    monkeypatch.setattr(VideoReader, "decode", recording)
    return calls


def test_a_frame_is_decoded_once(encode: Encode, numbers: Numbers, decoded: list[list[int]]) -> None:
    path = encode("v.mp4", 40)
    videos = CachedVideos(32)
    assert numbers(videos.read(path, [3, 10, 3]).pixels) == [3, 10, 3]
    again = videos.read(path, [10, 20, 3])
    assert numbers(again.pixels) == [10, 20, 3]
    assert again.indices == (10, 20, 3)
    assert again.times == pytest.approx([0.4, 0.8, 0.12])
    assert decoded == [[3, 10], [20]]
    assert videos.info(path).length == 40


def test_a_small_cache_still_gives_right_frames(encode: Encode, numbers: Numbers) -> None:
    path = encode("v.mp4", 40)
    videos = CachedVideos(32, cache_bytes=2 * 3 * 32 * 32)
    for picks in ([1, 2, 3, 4], [4, 3, 2, 1], [3, 30]):
        assert numbers(videos.read(path, picks).pixels) == picks


def test_a_changed_file_is_read_anew(encode: Encode, numbers: Numbers) -> None:
    path = encode("v.mp4", 40)
    videos = CachedVideos(32)
    assert numbers(videos.read(path, [3]).pixels) == [3]
    encode("v.mp4", 20, stamps=None, options={"qp": "5"})
    os.utime(path, ns=(1, 1))
    assert videos.info(path).length == 20
    assert numbers(videos.read(path, [3, 19]).pixels) == [3, 19]


def test_what_is_read_may_be_written_to(encode: Encode, numbers: Numbers) -> None:
    path = encode("v.mp4", 10)
    videos = CachedVideos(32)
    videos.read(path, [5]).pixels.zero_()
    assert numbers(videos.read(path, [5]).pixels) == [5]


def test_a_missing_file_in_the_cache(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.mp4 cannot be opened"):
        CachedVideos(32).info(tmp_path / "none.mp4")
