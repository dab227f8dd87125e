"""What is wrong with a data set's videos, before a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sevila.data import check
from sevila.data.check import Fault, find_faults, open_videos
from sevila.data.folders import VideoFolder
from sevila.data.records import Moment, Question
from sevila.data.video import Decoder, VideoInfo

Encode = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, encode: Encode) -> VideoFolder:
    (tmp_path / "videos").mkdir()
    encode("videos/good.mp4", 50)
    cut = encode("videos/cut.mp4", 50)
    cut.write_bytes(cut.read_bytes()[:-100])
    return VideoFolder(tmp_path / "videos")


def question(qid: str, video: str, clip: tuple[float, float] | None = None) -> Question:
    return Question(qid, video, "?", ("a", "b"), clip=clip)


def test_faults_by_record(folder: VideoFolder) -> None:
    records = [
        question("whole", "good"),
        question("part", "good", (1.0, 99.0)),
        question("past", "good", (2.0, 3.0)),  # it has 50 frames, two seconds
        question("gone", "none"),
        question("cut", "cut"),
        question("away", "../cut"),
        Moment("moment", "none", "?", 2.0),
    ]
    faults = find_faults(records, folder)
    assert {qid: fault.kind for qid, fault in faults.items()} == {
        "past": "clip outside",
        "gone": "missing",
        "cut": "unreadable",
        "away": "missing",
        "moment": "missing",
    }
    assert "leads out of the video folder" in faults["away"].reason
    assert faults["past"].reason.startswith("clip 2.0 to 3.0 s starts past the end of the video (2.0 s)")
    assert "cut.mp4 is cut off, 100 bytes are missing" in faults["cut"].reason


def test_each_video_is_opened_once(folder: VideoFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Counting(check.VideoReader):
        def __init__(self, path: Path, decoder: Decoder) -> None:
            opened.append(path.name)
            super().__init__(path, decoder)

    monkeypatch.setattr(check, "VideoReader", Counting)
    seen = open_videos(["good", "none", "good"], folder, threads=2)
    assert opened == ["good.mp4"] and list(seen) == ["good", "none"]
    assert seen["good"] == VideoInfo(50, 25.0, 96, 64, 2.0) and isinstance(seen["none"], Fault)


def test_decoding_finds_damage_further_on(folder: VideoFolder, encode: Encode) -> None:
    path = encode("videos/late.avi", 40, codec="mjpeg", pixel_format="yuvj420p")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\0" * 2000
    path.write_bytes(bytes(data))
    assert isinstance(open_videos(["late"], folder)["late"], VideoInfo)
    late = open_videos(["late"], folder, decode=40)["late"]
    assert isinstance(late, Fault) and late.kind == "unreadable" and "late.avi" in late.reason
    assert isinstance(open_videos(["good"], folder, decode=99)["good"], VideoInfo)
