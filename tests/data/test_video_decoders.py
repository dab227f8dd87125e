"""One suite for all decoders: the same frames by number. PyAV's are the reference, the others' colours may differ."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sevila.data.decoders import DECODERS, decoder_for
from sevila.data.decoding import PyAv
from sevila.data.video import CachedVideos, Decoder, VideoReader
from sevila.errors import UserError

Encode = Callable[..., Path]
Numbers = Callable[[torch.Tensor], list[int]]

MEAN_APART = {"pyav": 0.0, "decord": 1.0, "torchcodec": 3.0}  # of 255, from PyAV
OPEN_GROUPS = {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0"}


@pytest.fixture(params=DECODERS)
def name(request: pytest.FixtureRequest) -> str:
    try:
        decoder_for(request.param, 0)
    except UserError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture(params=[0, 2], ids=["all_threads", "one_thread"])
def decoder(name: str, request: pytest.FixtureRequest) -> Decoder:
    return decoder_for(name, request.param)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("b_frames.mp4", {"options": {"bf": "3", "g": "12"}}),
        ("b_frames.mkv", {"options": {"bf": "3", "g": "12"}}),
        ("open.mp4", {"options": OPEN_GROUPS}),
        ("plain.mp4", {"options": {"bf": "0", "g": "10"}}),
        ("varying.mp4", {"stamps": [7 * n * n for n in range(60)]}),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "g": "12"}}),
        ("edited.mp4", {"stamps": [40 * n - 600 for n in range(60)]}),
        ("raw.h264", {}),
    ],
)
def test_frames_are_found_by_their_numbers(
    encode: Encode, numbers: Numbers, decoder: Decoder, file: str, settings: dict[str, object]
) -> None:
    path = encode(file, 60, **settings)
    reference = VideoReader(path)
    shown = numbers(reference.read(range(reference.length), 32).pixels)
    reader = VideoReader(path, decoder)
    assert reader.info == reference.info
    for picks in ([0], [13, 12], [44, 3, 44], [5, 20, 21, 41]):
        try:
            frames = reader.read(picks, 32)
        except UserError as error:
            assert not isinstance(decoder, PyAv)
            assert f"does not read video {path} rightly" in str(error) and "frames.decoder=pyav" in str(error)
            assert "\n" not in str(error)
            continue
        assert numbers(frames.pixels) == [shown[index] for index in picks]
        assert (frames.indices, frames.pixels.dtype) == (tuple(picks), torch.uint8)


@pytest.mark.parametrize("file", ["bikes.mp4", "world.mp4", "carphone_pristine.mp4", "b.avi", "tree.avi"])
def test_real_frames_are_alike(shared: Path, name: str, file: str) -> None:
    path = shared / "videos" / file
    picks = [0, 17, 40, 66]
    expected = VideoReader(path, PyAv(1)).read(picks, 224).pixels.int()
    apart = (VideoReader(path, decoder_for(name, 1)).read(picks, 224).pixels.int() - expected).abs().float()
    assert apart.mean((1, 2, 3)).max() <= MEAN_APART[name]


def test_a_frame_counted_otherwise_is_refused(shared: Path, name: str) -> None:
    path = shared / "videos" / "movie-hello.mpeg"  # decord and torchcodec take other frames of it
    reader = VideoReader(path, decoder_for(name, 1))
    if name == "pyav":
        assert reader.read([124], 32).indices == (124,)
        return
    with pytest.raises(UserError, match=rf"{name} does not read video .*movie-hello\.mpeg rightly .*: use frames\."):
        reader.read([124], 32)


def test_turned_pictures(encode: Encode, name: str) -> None:
    picture = np.zeros((64, 96, 3), dtype=np.uint8)
    picture[:32, :48] = 255
    path = encode("v.mp4", [picture] * 3)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    for offset, value in ((0, 0), (4, 1), (12, -1), (16, 0)):  # a quarter turn clockwise
        data[at + offset : at + offset + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    try:
        pixels = VideoReader(path, decoder_for(name, 1)).read([1], 32).pixels[0]
    except UserError as error:
        assert name != "pyav" and "frames.decoder=pyav" in str(error)
    else:
        assert pixels[:, 8, 24].min() > 240 and pixels[:, 8, 8].max() < 15


def test_a_missing_frame_and_a_missing_file(encode: Encode, name: str, tmp_path: Path) -> None:
    decoder = decoder_for(name, 0)
    with pytest.raises(UserError, match=r"v\.mp4 has no frame 5: it has 5, counted from 0"):
        VideoReader(encode("v.mp4", 5), decoder).read([5], 32)
    with pytest.raises(UserError, match=r"none\.mp4 does not exist"):
        VideoReader(tmp_path / "none.mp4", decoder)


def test_the_cache_takes_its_decoder_to_workers(encode: Encode, numbers: Numbers, name: str) -> None:
    path = encode("v.mp4", 20)
    videos = pickle.loads(pickle.dumps(CachedVideos(32, decoder=decoder_for(name, 2))))
    assert videos.decoder == decoder_for(name, 2)
    assert numbers(videos.read(path, [3, 11]).pixels) == [3, 11]


def test_one_thread_where_workers_decode() -> None:
    assert (decoder_for("pyav", 0), decoder_for("pyav", 3)) == (PyAv(0), PyAv(1))


@pytest.mark.parametrize("name", ["decord", "torchcodec"])
def test_a_decoder_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"^frames\.decoder={name}: {name} is not installed: pip install [^\n]*$"):
        decoder_for(name, 0)


LOADING = """Could not load libtorchcodec. Likely causes:
          1. FFmpeg is not properly installed in your environment. We support versions 4, 5, 6, 7, and 8.
        The following exceptions were raised as we tried to load libtorchcodec:

[start of libtorchcodec loading traceback]
FFmpeg version 8: libavutil.so.60: cannot open shared object file: No such file or directory
FFmpeg version 7: {seven}
FFmpeg version 6: libavutil.so.58: cannot open shared object file: No such file or directory
[end of libtorchcodec loading traceback].
"""
GONE = "cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (LOADING.format(seven=f"libnvrtc.so.13: {GONE}"), f"libnvrtc.so.13: {GONE}"),
        (LOADING.format(seven=f"libavutil.so.59: {GONE}"), f"libavutil.so.60: {GONE}"),
        ("something else\nand more", "something else"),
    ],
)
def test_what_torchcodec_lacks_is_named(message: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "torchcodec":
                raise RuntimeError(message)

    monkeypatch.delitem(sys.modules, "torchcodec", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(UserError) as caught:
        decoder_for("torchcodec", 0)
    assert f"torchcodec cannot be loaded ({cause}): it needs FFmpeg's" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_decoder() -> None:
    with pytest.raises(UserError, match=r"^frames\.decoder=ffmpeg: unknown; choose from: pyav, decord, torchcodec$"):
        decoder_for("ffmpeg", 0)
