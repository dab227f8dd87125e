"""Every video is decoded once, whoever asks about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from sevila.benchmarks.synthetic import Synthetic
from sevila.data.dataset import VideoSource
from sevila.data.video import CachedVideos, VideoReader
from sevila.errors import UserError

SIZE = 32


def source(world: Synthetic, n: int = 4, workers: int = 0, cache: int = 0) -> VideoSource:
    return VideoSource(CachedVideos(SIZE, cache), world.folder(), n, workers)


def test_rows_and_frames_of_every_video(world: Synthetic) -> None:
    questions = world.questions("test")[::-1] + world.questions("val")
    seen = []
    for rows, sample in source(world).walk(questions):
        assert {questions[row].video for row in rows} == {sample.record.video}
        assert sample.frames.indices == (8, 24, 40, 56) and sample.frames.times == (2.0, 6.0, 10.0, 14.0)
        reader = VideoReader(world.folder().path(sample.record.video))
        assert torch.equal(sample.frames.pixels, reader.read([8, 24, 40, 56], SIZE).pixels)
        seen += rows
    assert sorted(seen) == list(range(len(questions)))


def test_a_video_is_decoded_once(world: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: Counter[str] = Counter()
    decode = VideoReader.decode

    def counted(self: VideoReader, indices, size: int):
        decoded[self.path.stem] += 1
        return decode(self, indices, size)

    monkeypatch.setattr(VideoReader, "decode", counted)
    questions = world.questions("test") + world.questions("val")
    mixed = questions[::2] + questions[1::2]
    walked = [sample.record.video for _, sample in source(world).walk(mixed)]
    assert sorted(walked) == ["test_0000", "test_0001", "val_0000", "val_0001"]
    assert decoded == dict.fromkeys(walked, 1)


def test_a_clip_is_a_walk_of_its_own(world: Synthetic) -> None:
    question = world.questions("test")[0]
    clipped = replace(question, clip=(4.0, 8.0))
    groups = list(source(world).walk([question, clipped, question]))
    assert [rows for rows, _ in groups] == [[0, 2], [1]]
    assert [sample.frames.indices for _, sample in groups] == [(8, 24, 40, 56), (18, 22, 26, 30)]


def test_workers_change_nothing(world: Synthetic) -> None:
    questions = world.questions("val") + world.questions("test")
    here = list(source(world).walk(questions))
    there = list(source(world, workers=1).walk(questions))
    assert [rows for rows, _ in here] == [rows for rows, _ in there]
    assert all(torch.equal(a.pixels, b.pixels) for (_, a), (_, b) in zip(here, there, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_is_one_line_that_names_the_record(world: Synthetic, workers: int) -> None:
    lost = replace(world.questions("val")[0], qid="q7", video="lost")
    with pytest.raises(UserError) as caught:
        list(source(world, workers=workers).walk([world.questions("val")[0], lost]))
    message = str(caught.value)
    assert message.startswith("record q7 (video lost): video 'lost' is not in ") and "\n" not in message


def test_nothing_to_walk(world: Synthetic) -> None:
    assert list(source(world).walk([])) == []
