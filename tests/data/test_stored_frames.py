"""Datasets that look into a store before they decode."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from sevila.data.dataset import Batch, FrameDataset, Sample, collate
from sevila.data.folders import VideoFolder
from sevila.data.loading import stream
from sevila.data.records import Question
from sevila.data.sampling import EvaluationFrames, RecurringFrames, TrainingFrames
from sevila.data.store import Store
from sevila.data.video import CachedVideos, VideoReader
from sevila.errors import UserError

SIZE = 16
RECORDS = [
    Question("q0", "long", "what?", ("a", "b"), 0),
    Question("q1", "long", "when?", ("a", "b"), 1, clip=(0.4, 1.2)),
    Question("q2", "short", "who?", ("a", "b"), 1),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", {"tower": "pixel sums"}, torch.float32)


@pytest.fixture
def make(tmp_path: Path, encode: Callable[..., Path], store: Store) -> Callable[..., FrameDataset]:
    (tmp_path / "videos").mkdir()
    for name, count in (("long", 50), ("short", 3)):
        encode(f"videos/{name}.mp4", count)

    def dataset(rule: object, kept: Store | None = store, **more: object) -> FrameDataset:
        return FrameDataset(RECORDS, CachedVideos(SIZE, 0), VideoFolder(tmp_path / "videos"), rule, store=kept, **more)

    return dataset


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames that were decoded."""
    numbers: list[int] = []
    plain = VideoReader.decode

    def counted(self: VideoReader, indices, size: int):
        wanted = list(indices)
        numbers.extend(wanted)
        return plain(self, wanted, size)

    monkeypatch.setattr(VideoReader, "decode", counted)
    return numbers


def tower(pixels: torch.Tensor) -> torch.Tensor:
    """Of pictures [..., 3, S, S] the means: [..., 3, 1]."""
    return pixels.float().mean((-2, -1))[..., None]


def keep(item: Sample | Batch) -> None:
    item.stored.keep(tower(item.pixels))
    item.stored.store.flush()


def test_only_what_the_store_lacks_is_decoded(make: Callable[..., FrameDataset], decoded: list[int]) -> None:
    dataset, plain = make(EvaluationFrames(4)), make(EvaluationFrames(4), None)
    cold = dataset[0, 0]
    assert cold.frames.indices == (6, 18, 31, 43) == tuple(decoded)
    assert cold.stored.missing.all() and cold.stored.patches is None
    assert torch.equal(cold.pixels, plain[0, 0].pixels)
    keep(cold)
    decoded.clear()
    warm = dataset[0, 0]
    assert decoded == [] and len(warm.pixels) == 0 == len(warm.frames.pixels) and not warm.stored.missing.any()
    assert (warm.frames.indices, warm.frames.times) == (cold.frames.indices, cold.frames.times)
    assert torch.equal(warm.stored.patches, tower(cold.pixels))
    wider = make(EvaluationFrames(4), fixed_indices={"q0": [6, 7, 43, 7]})[0, 0]
    assert sorted(set(decoded)) == [7] and wider.stored.missing.tolist() == [False, True, False, True]
    assert torch.equal(wider.stored.patches[[0, 2]], tower(cold.pixels[[0, 3]]))
    assert wider.stored.patches[[1, 3]].abs().max() == 0 and len(wider.pixels) == 2
    assert [lack.indices for lack in wider.stored.misses] == [(7, 7)]
    assert wider.frames.times == pytest.approx([6 / 25, 7 / 25, 43 / 25, 7 / 25])


def test_the_file_is_not_even_opened(make: Callable[..., FrameDataset], monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(EvaluationFrames(4))
    keep(dataset[0, 1])
    monkeypatch.setattr("sevila.data.video.VideoReader.__init__", lambda *_: pytest.fail("opened"))
    assert make(EvaluationFrames(4))[0, 1].frames.indices == (12, 17, 22, 27)


def test_pictures_are_decoded_where_somebody_looks_at_them(
    make: Callable[..., FrameDataset], decoded: list[int]
) -> None:
    keep(make(EvaluationFrames(4))[0, 0])
    decoded.clear()
    sample = make(EvaluationFrames(4), pictures=True)[0, 0]
    assert decoded == [6, 18, 31, 43] and sample.frames.pixels.shape == (4, 3, SIZE, SIZE)
    assert len(sample.pixels) == 0 and not sample.stored.missing.any()
    assert torch.equal(tower(sample.frames.pixels), sample.stored.patches)
    partly = make(EvaluationFrames(4), pictures=True, fixed_indices={"q0": [6, 8]})[0, 0]
    assert len(partly.frames.pixels) == 2 and torch.equal(partly.pixels, partly.frames.pixels[1:])


def test_a_batch_of_videos_that_are_partly_known(make: Callable[..., FrameDataset]) -> None:
    dataset = make(EvaluationFrames(4))
    keep(dataset[0, 0])
    keep(make(EvaluationFrames(4), fixed_indices={"q2": [1]})[0, 2])
    batch = collate([dataset[0, index] for index in (2, 0, 1)])
    plain = collate([make(EvaluationFrames(4), None)[0, index] for index in (2, 0, 1)])
    assert torch.equal(batch.mask, plain.mask) and batch.indices == plain.indices and batch.times == plain.times
    missing = batch.stored.missing
    assert missing.tolist() == [[True, False, True, False], [False] * 4, [True] * 4]
    assert torch.equal(batch.pixels, plain.pixels[missing])
    known = batch.mask & ~missing
    assert torch.equal(batch.stored.patches[known], tower(plain.pixels[known]))
    assert batch.stored.patches[~known].abs().max() == 0
    assert [lack.indices for lack in batch.stored.misses] == [(0, 2), (), (12, 17, 22, 27)]
    keep(batch)
    full = collate([dataset[0, index] for index in (2, 0, 1)])
    assert not full.stored.missing.any() and len(full.pixels) == 0
    assert torch.equal(full.stored.patches[plain.mask], tower(plain.pixels)[plain.mask])
    assert full.to("meta").stored.patches.device.type == "meta" and full.to("meta").stored.missing.device.type == "cpu"


def test_a_batch_of_which_nothing_is_known(make: Callable[..., FrameDataset]) -> None:
    dataset = make(EvaluationFrames(4))
    batch = collate([dataset[0, 2], dataset[0, 0]])
    assert batch.stored.patches is None and batch.stored.missing.tolist() == [[True] * 3 + [False], [True] * 4]
    assert batch.pixels.shape == (7, 3, SIZE, SIZE) and batch.to("meta").stored.patches is None


@pytest.mark.parametrize("crop", [True, False])
def test_fresh_training_frames_pass_the_store_by(make: Callable[..., FrameDataset], crop: bool) -> None:
    rule = TrainingFrames(4, seed=1, crop=crop)
    sample = make(rule)[0, 0]
    assert sample.stored is None and torch.equal(sample.pixels, make(rule, None)[0, 0].pixels)


@pytest.mark.parametrize("crop", [True, False])
def test_views_come_again(make: Callable[..., FrameDataset], crop: bool, decoded: list[int]) -> None:
    plain = TrainingFrames(4, seed=1, crop=crop)
    dataset, fresh = make(RecurringFrames(plain, 3)), make(plain, None)
    for epoch in range(3):  # the first epochs are those of the rule itself
        sample = dataset[epoch, 0]
        shown = fresh[epoch, 0]
        assert sample.frames.indices == shown.frames.indices
        kept = ~sample.stored.missing
        assert torch.equal(sample.pixels, shown.pixels[~kept])
        keep(sample)
    decoded.clear()
    for epoch in range(3, 9):
        sample, shown = dataset[epoch, 0], fresh[epoch % 3, 0]
        decoded.clear()
        assert sample.frames.indices == shown.frames.indices and len(sample.pixels) == 0
        assert torch.equal(sample.stored.patches, tower(shown.pixels))
    views = {dataset.rule.view(SIZE, (epoch, 0)) for epoch in range(9)}
    assert len(views) == (3 if crop else 1)
    assert len({dataset[epoch, 0].frames.indices for epoch in range(9)}) == 3


def test_workers_find_the_same(make: Callable[..., FrameDataset], store: Store, decoded: list[int]) -> None:
    keep(make(EvaluationFrames(4))[0, 0])
    keys = [[(0, 0), (0, 1)], [(0, 2)]]
    here = list(stream(make(EvaluationFrames(4)), 0, keys))
    there = list(stream(make(EvaluationFrames(4)), 1, keys))
    for ours, theirs in zip(here, there, strict=True):
        assert torch.equal(ours.pixels, theirs.pixels) and torch.equal(ours.stored.missing, theirs.stored.missing)
        assert ours.stored.misses == theirs.stored.misses and theirs.stored.store is store
    assert torch.equal(here[0].stored.patches, there[0].stored.patches)


def test_faults_are_named_as_ever(make: Callable[..., FrameDataset]) -> None:
    dataset = make(EvaluationFrames(4))
    dataset.records = [replace(RECORDS[0], clip=(9.0, 10.0)), replace(RECORDS[0], video="none")]
    for index, message in enumerate(("record q0 .*starts past the end", "record q0 .*'none' is not in")):
        with pytest.raises(UserError, match=message):
            _ = dataset[0, index]
    with pytest.raises(UserError, match=r"record q1 .*has no frame 50"):
        _ = make(EvaluationFrames(4), fixed_indices={"q1": [50]})[0, 1]


def test_a_dataset_with_a_store_travels(make: Callable[..., FrameDataset], store: Store) -> None:
    copy = pickle.loads(pickle.dumps(make(EvaluationFrames(4))))
    assert copy.store.id == store.id and copy[0, 0].frames.indices == (6, 18, 31, 43)


def test_folders_of_pictures_are_known_without_a_look_at_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos/clip").mkdir(parents=True)
    for number in range(1, 7):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / f"videos/clip/{number:05}.png")

    def sample() -> Sample:
        videos = CachedVideos(SIZE, 0)
        records, rule = [Question("q", "clip", "?", ("a", "b"), 0)], EvaluationFrames(3)
        return FrameDataset(records, videos, VideoFolder(tmp_path / "videos"), rule, store=store)[0, 0]

    cold = sample()
    keep(cold)
    with monkeypatch.context() as patch:
        patch.setattr("sevila.data.video._picture", lambda *_: pytest.fail("looked at"))
        warm = sample()
    assert (warm.frames.indices, warm.frames.times) == (
        (1, 3, 5),
        (1 / 3, 1.0, 5 / 3),
    ) and not warm.stored.missing.any()
    assert torch.equal(warm.stored.patches, tower(cold.pixels))
    (tmp_path / "videos/fps.txt").write_text("6")
    assert sample().frames.times == (1 / 6, 0.5, 5 / 6)
