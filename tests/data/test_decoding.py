"""Decoding only what the wanted frames need: equal, to the byte, to decoding everything with plain PyAV."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevila.data import decoding
from sevila.data.decoding import Inexact, NoStart, PyAv, needed_frames, plain_frames
from sevila.data.frame_table import frame_table
from sevila.data.transforms import to_tensor
from sevila.errors import UserError

LENGTH = 90
SIZE = 32
X264 = {"g": "30"}
OPEN = "open-gop=1:keyint=12:bframes=3:b-adapt=0"


def pictures(length: int) -> Iterator[np.ndarray]:
    """A textured ground that pans, under squares that move: an encoder finds all its kinds of frames useful."""
    rng = np.random.default_rng(0)
    ground = rng.integers(40, 200, (20, 30, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for n in range(length):
        x, y = 2 * n % 96, n % 64
        image = ground[y : y + 64, x : x + 96].copy()
        image[(3 * n) % 48 : (3 * n) % 48 + 16, 10:26] = 255 - 2 * n
        if n >= 60:  # another shot
            image = 255 - image
        yield image


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[str, Path] = {}

    def make(
        name: str,
        codec: str = "libx264",
        options: dict[str, str] | None = None,
        stamps: Callable[[int], int] = lambda n: 40 * n,
        container_options: dict[str, str] | None = None,
        clock: Fraction = Fraction(1, 1000),
    ) -> Path:
        if name in made:
            return made[name]
        path = tmp_path_factory.mktemp("film") / name
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=25, options=X264 if options is None else options)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            stream.codec_context.time_base = clock
            for n, image in enumerate(pictures(LENGTH)):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = stamps(n), clock
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        made[name] = path
        return path

    return make


def everything(path: Path) -> torch.Tensor:
    """All frames of a file, by a plain loop."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        reformatter = VideoReformatter()
        return torch.stack([to_tensor(frame, (SIZE, SIZE), reformatter) for frame in container.decode(video=0)])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stamps of the frames that were decoded."""
    stamps: list[int] = []
    original = decoding._Run._receive

    def recording(run: decoding._Run, frame: av.VideoFrame) -> None:
        stamps.append(frame.pts)
        original(run, frame)

    monkeypatch.setattr(decoding._Run, "_receive", recording)
    return stamps


BY_FRAME: dict[str, object] = {"stamps": lambda n: n, "clock": Fraction(1, 25)}
# name: what makes the file, and the largest share of its frames that 4 wanted ones may need
FILMS: dict[str, tuple[dict[str, object], float]] = {
    "default.mp4": ({"options": {}}, 0.65),
    "short_groups.mp4": ({"options": {"g": "10"}}, 0.4),
    "short_groups.mkv": ({"options": {"g": "10"}}, 0.4),
    "short_groups.ts": ({"options": {"g": "10"}}, 0.4),
    "open.mp4": ({"options": {"x264-params": OPEN}}, 0.5),
    "open.mkv": ({"options": {"x264-params": OPEN}}, 0.5),
    "open.ts": ({"options": {"x264-params": OPEN}}, 0.5),
    "open_pyramid.mp4": ({"options": {"x264-params": OPEN + ":b-pyramid=normal:ref=4:weightp=2"}}, 0.5),
    "open_long.mp4": ({"options": {"x264-params": "open-gop=1:keyint=20:bframes=8:b-adapt=0:b-pyramid=strict"}}, 0.6),
    "pyramid.mp4": ({"options": {"x264-params": "keyint=40:bframes=7:b-adapt=0:b-pyramid=normal:ref=5"}}, 0.6),
    "strict.mkv": ({"options": {"x264-params": "keyint=40:bframes=5:b-adapt=0:b-pyramid=strict:direct=temporal"}}, 0.6),
    "no_b.mp4": ({"options": {"g": "15", "bf": "0"}}, 0.6),
    "slices.mp4": ({"options": {"x264-params": "keyint=30:bframes=3:b-adapt=0:slices=4"}}, 0.6),
    "all_keys.mp4": ({"options": {"g": "1"}}, 0.06),
    "tiny_groups.mp4": ({"options": {"x264-params": "keyint=3:min-keyint=1:bframes=2:b-adapt=0"}}, 0.2),
    "tiny_open.mp4": ({"options": {"x264-params": "open-gop=1:keyint=4:min-keyint=1:bframes=3:b-adapt=0"}}, 0.4),
    "refresh.mkv": ({"options": {"g": "12", "x264-params": "intra-refresh=1"}}, 1.0),
    "refresh.mp4": ({"options": {"g": "12", "x264-params": "intra-refresh=1"}}, 1.0),
    "interlaced.mp4": ({"options": {"x264-params": "keyint=20:interlaced=1:bframes=2"}}, 1.0),
    "fragments.mp4": ({"container_options": {"movflags": "frag_keyframe+empty_moov"}}, 0.6),
    "h264.avi": ({"options": {"bf": "0", "g": "10"}, **BY_FRAME}, 0.5),
    "raw.h264": ({}, 1.0),
    "varying.mp4": ({"stamps": lambda n: 7 * n * n}, 0.6),
    "varying.mkv": ({"stamps": lambda n: 7 * n * n}, 0.6),
    "edited.mp4": ({"stamps": lambda n: 40 * n - 620}, 0.7),
    "early.mkv": ({"stamps": lambda n: 40 * n - 620, "container_options": {"avoid_negative_ts": "disabled"}}, 0.6),
    "early.ts": ({"stamps": lambda n: 40 * n - 620, "container_options": {"avoid_negative_ts": "disabled"}}, 0.6),
    "mpeg4.mp4": ({"codec": "mpeg4", "options": {"bf": "2", "g": "10"}}, 0.6),
    "mpeg4.avi": ({"codec": "mpeg4", "options": {"g": "10"}, **BY_FRAME}, 1.0),
    "mpeg2.mpg": ({"codec": "mpeg2video", "options": {"bf": "2", "g": "10"}, **BY_FRAME}, 1.0),
    "mpeg2.mkv": ({"codec": "mpeg2video", "options": {"bf": "2", "g": "10"}, **BY_FRAME}, 0.6),
    "vp8.webm": ({"codec": "libvpx", "options": {"g": "15", "cpu-used": "8"}}, 1.0),
    "vp9.webm": ({"codec": "libvpx-vp9", "options": {"g": "15", "cpu-used": "8", "lag-in-frames": "10"}}, 0.7),
    "hevc.mp4": ({"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=30:open-gop=0"}}, 0.65),
    "hevc_open.mp4": ({"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:bframes=4"}}, 0.6),
    "hevc_open.mkv": ({"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:bframes=4"}}, 0.6),
    "hevc.ts": ({"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=30"}}, 0.65),
    "hevc_layers.mp4": (
        {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=30:temporal-layers=2:bframes=3"}},
        0.65,
    ),
}
DECODED_PLAINLY = {"raw.h264", "early.mkv", "vp8.webm"}  # their packets do not tell their frames apart
NO_STARTS = {"refresh.mkv", "refresh.mp4"}  # what they mark as key frames are none


@pytest.fixture(params=FILMS)
def made(request: pytest.FixtureRequest, film: Callable[..., Path]) -> tuple[str, Path]:
    how, _ = FILMS[request.param]
    if how.get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {how['codec']}")
    return request.param, film(request.param, **how)


def test_random_frames_equal_full_decoding(made: tuple[str, Path]) -> None:
    name, path = made
    whole = everything(path)
    tables = {threads: PyAv(threads).open(path) for threads in (1, 0)}
    length = len(whole)
    assert len(tables[1].table.stamps) == length
    rng = random.Random(name)
    picks = [sorted(rng.sample(range(length), rng.choice((1, 2, 4, 9, 30)))) for _ in range(10)]
    for pick in [*picks, [length - 1], list(range(length))]:
        for threads, source in tables.items():
            found = source.decode(pick, (SIZE, SIZE))
            assert sorted(found) == pick
            wrong = [index for index in pick if not torch.equal(found[index], whole[index])]
            assert not wrong, f"{name}, {threads} threads, {pick}"


def test_it_leaves_out_what_it_can(made: tuple[str, Path], decoded: list[int]) -> None:
    name, path = made
    table = frame_table(path)
    pick = [5, 38, 41, 70]
    stamps = [table.stamps[i] for i in pick]
    if name in DECODED_PLAINLY:
        with pytest.raises(Inexact):
            needed_frames(path, table, stamps, 1, lambda frame: torch.zeros(1))
        return
    if name in NO_STARTS:
        with pytest.raises(NoStart):
            needed_frames(path, table, stamps, 1, lambda frame: torch.zeros(1))
        table = replace(table, keys=array("q"))
        decoded.clear()
    assert sorted(needed_frames(path, table, stamps, 1, lambda frame: torch.zeros(1))) == stamps
    assert len(decoded) <= FILMS[name][1] * LENGTH
    assert len(set(decoded)) >= len(pick)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_x264_file_and_any_frames(film: Callable[..., Path], data: st.DataObject) -> None:
    draw = data.draw
    names = ("keyint", "bframes", "ref", "open-gop", "b-adapt", "weightp")
    limits = ((1, 40), (0, 6), (1, 5), (0, 1), (0, 2), (0, 2))
    options = {name: draw(st.integers(*limit), name) for name, limit in zip(names, limits, strict=True)}
    pyramid = draw(st.sampled_from(("none", "strict", "normal")))
    direct = draw(st.sampled_from(("spatial", "temporal")))
    extension = draw(st.sampled_from(("mp4", "mkv", "ts")))
    params = ":".join([*(f"{key}={value}" for key, value in options.items()), f"b-pyramid={pyramid}:direct={direct}"])
    path = film(f"{params.replace('=', '_').replace(':', '_')}.{extension}", options={"x264-params": params})
    whole = everything(path)
    source = PyAv(draw(st.sampled_from((0, 1)))).open(path)
    for _ in range(3):
        pick = sorted(draw(st.sets(st.integers(0, LENGTH - 1), min_size=1, max_size=12)))
        found = source.decode(pick, (SIZE, SIZE))
        assert sorted(found) == pick
        assert all(torch.equal(found[index], whole[index]) for index in pick)


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_gives_what_plain_decoding_gives(film: Callable[..., Path], tmp_path: Path, seed: int) -> None:
    name = ("default.mp4", "short_groups.mkv", "strict.mkv")[seed % 3]
    data, rng = bytearray(film(name, **FILMS[name][0]).read_bytes()), random.Random(seed)
    for _ in range(20):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path = tmp_path / name
    path.write_bytes(data)

    def convert(frame: av.VideoFrame) -> torch.Tensor:
        return to_tensor(frame, (SIZE, SIZE), VideoReformatter())

    try:
        source = PyAv(0).open(path)
        stamps = set(source.table.stamps[::9])
        plain = plain_frames(path, source.table, stamps, convert)
    except UserError:
        return  # a file that cannot be read plainly need not be read at all
    found = source.decode(range(0, len(source.table.stamps), 9), (SIZE, SIZE))
    assert [source.table.stamps[index] for index in sorted(found)] == sorted(plain)
    assert all(torch.equal(found[index], plain[source.table.stamps[index]]) for index in found)


def test_a_name_in_no_known_letters_does_not_matter(film: Callable[..., Path], tmp_path: Path) -> None:
    data = film("default.mp4", options={}).read_bytes()
    assert b"Lavf" in data
    path = tmp_path / "v.mp4"
    path.write_bytes(data.replace(b"Lavf", b"La\xebf"))
    assert len(frame_table(path).stamps) == LENGTH
