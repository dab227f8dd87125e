"""Datasets and batches: the same whatever the number of workers, a function of (seed, epoch, index) alone."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from sevila.data.dataset import Batch, FrameDataset, collate
from sevila.data.folders import VideoFolder
from sevila.data.records import Moment, Question
from sevila.data.sampling import EvaluationFrames, TrainingFrames, epoch_keys
from sevila.data.video import CachedVideos
from sevila.errors import UserError

SIZE = 32


@pytest.fixture
def records(encode: Callable[..., Path]) -> list[Question | Moment]:
    encode("long.mp4", 50)
    encode("short.mp4", 3)
    return [
        Question("q0", "long", "what?", ("a", "b"), 0),
        Question("q1", "long", "when?", ("a", "b"), 1, clip=(0.4, 1.2)),
        Question("q2", "short", "who?", ("a", "b"), 1),
        Moment("m0", "long", "a bar", duration=2.0, windows=((0.0, 1.0),)),
    ]


@pytest.fixture
def make(records: list[Question | Moment], tmp_path: Path) -> Callable[..., FrameDataset]:
    def dataset(rule: EvaluationFrames | TrainingFrames, **more: object) -> FrameDataset:
        return FrameDataset(records, CachedVideos(SIZE), VideoFolder(tmp_path), rule, **more)

    return dataset


def test_evaluation_takes_midpoints(
    make: Callable[..., FrameDataset], records: list[Question | Moment], numbers: Callable[..., list[int]]
) -> None:
    dataset = make(EvaluationFrames(4))
    assert len(dataset) == 4
    expected = [(6, 18, 31, 43), (12, 17, 22, 27), (0, 1, 2), (6, 18, 31, 43)]
    for index, indices in enumerate(expected):
        sample = dataset[0, index]
        assert sample.record is records[index]
        assert sample.frames.indices == indices
        assert sample.frames.times == pytest.approx([number / 25 for number in indices])
        assert numbers(sample.frames.pixels) == list(indices)
        assert torch.equal(sample.pixels, sample.frames.pixels)
    assert torch.equal(dataset[5, 0].pixels, dataset[0, 0].pixels)  # the epoch makes no difference


def test_training_draws_from_segments_by_key(
    make: Callable[..., FrameDataset], numbers: Callable[..., list[int]]
) -> None:
    dataset = make(TrainingFrames(4, seed=1))
    draws = {(epoch, index): dataset[epoch, index].frames.indices for epoch in range(6) for index in (0, 3)}
    for drawn in draws.values():
        assert all(
            low <= number < high for low, number, high in zip((0, 12, 25, 37), drawn, (12, 25, 37, 50), strict=True)
        )
    assert len(set(draws.values())) > 8  # other epochs and other items draw other frames
    sample = dataset[0, 0]
    assert numbers(sample.frames.pixels) == list(sample.frames.indices)
    assert sample.frames.indices == make(TrainingFrames(4, seed=1))[0, 0].frames.indices
    assert sample.frames.indices != make(TrainingFrames(4, seed=2))[0, 0].frames.indices
    assert all(10 <= number < 30 for number in dataset[0, 1].frames.indices)  # the clip, 0.4 to 1.2 s


def test_training_crops_all_frames_of_a_video_alike(make: Callable[..., FrameDataset]) -> None:
    cropped = make(TrainingFrames(4, seed=1), fixed_indices={"q0": [7, 7, 7]})
    first, second = cropped[0, 0].pixels, cropped[1, 0].pixels
    assert torch.equal(first[0], first[1]) and torch.equal(first[0], first[2])
    assert not torch.equal(first, second)  # another epoch, another crop
    plain = make(TrainingFrames(4, seed=1, crop=False))[0, 0]
    assert torch.equal(plain.pixels, plain.frames.pixels)


def test_fixed_indices_go_before_the_rule(make: Callable[..., FrameDataset]) -> None:
    dataset = make(EvaluationFrames(4), fixed_indices={"q1": [2, 40]})
    assert dataset[0, 1].frames.indices == (2, 40)
    assert dataset[0, 0].frames.indices == (6, 18, 31, 43)
    with pytest.raises(UserError, match=r"record q1 \(video long\): .*has no frame 50"):
        _ = make(EvaluationFrames(4), fixed_indices={"q1": [50]})[0, 1]


def test_collation_pads_and_masks(make: Callable[..., FrameDataset], records: list[Question | Moment]) -> None:
    dataset = make(EvaluationFrames(5))
    batch = collate([dataset[0, index] for index in range(4)])
    assert batch.records == records and len(batch) == 4
    assert batch.pixels.shape == (4, 5, 3, SIZE, SIZE) and batch.pixels.dtype == torch.uint8
    assert batch.mask.tolist() == [[True] * 5, [True] * 5, [True] * 3 + [False] * 2, [True] * 5]
    assert batch.indices[2] == [0, 1, 2]
    assert batch.times[2] == pytest.approx([0, 0.04, 0.08])
    assert batch.pixels[2, 3:].abs().max() == 0
    assert torch.equal(batch.pixels[2, :3], dataset[0, 2].pixels)
    moved = batch.to("meta")
    assert (moved.pixels.device.type, moved.mask.device.type) == ("meta", "meta")
    assert moved.indices == batch.indices


def test_a_faulty_record_is_named_and_never_replaced(tmp_path: Path, encode: Callable[..., Path]) -> None:
    encode("v.mp4", 10)
    faulty = [
        (Question("late", "v", "?", ("a", "b"), clip=(9.0, 10.0)), "record late .*starts past the end"),
        (Question("gone", "none", "?", ("a", "b")), "record gone .*'none' is not in"),
        (
            Question("nan", "v", "?", ("a", "b"), clip=(float("nan"),) * 2),
            "record nan .*not a stretch of time",
        ),
    ]
    dataset = FrameDataset(
        [record for record, _ in faulty], CachedVideos(SIZE), VideoFolder(tmp_path), EvaluationFrames(4)
    )
    for index, (_, message) in enumerate(faulty):
        with pytest.raises(UserError, match=message):
            _ = dataset[0, index]


def batches(dataset: FrameDataset, workers: int, context: str | None = None, skip: int = 0) -> list[Batch]:
    sampler = epoch_keys(len(dataset), seed=5, epoch=1)[skip:]
    loader = DataLoader(
        dataset, 2, sampler=sampler, collate_fn=collate, num_workers=workers, multiprocessing_context=context
    )
    return list(loader)


def same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        a.records == b.records and a.indices == b.indices and torch.equal(a.pixels, b.pixels)
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize(("workers", "context"), [(2, "fork"), (1, "spawn")])
def test_workers_make_no_difference(make: Callable[..., FrameDataset], workers: int, context: str) -> None:
    alone = batches(make(TrainingFrames(4, seed=1)), 0)
    assert same(batches(make(TrainingFrames(4, seed=1)), workers, context), alone)
    assert same(batches(make(TrainingFrames(4, seed=1)), 0, skip=2), alone[1:])


def test_global_generators_play_no_part(make: Callable[..., FrameDataset]) -> None:
    random.seed(1)
    torch.manual_seed(1)
    states = random.getstate(), torch.get_rng_state()
    sample = make(TrainingFrames(4, seed=1))[0, 0]
    epoch_keys(10, 0, 0)
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
    random.seed(2)
    torch.manual_seed(2)
    assert torch.equal(sample.pixels, make(TrainingFrames(4, seed=1))[0, 0].pixels)


def test_a_dataset_travels_without_its_cache(make: Callable[..., FrameDataset]) -> None:
    dataset = make(EvaluationFrames(4))
    sample = dataset[0, 0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 5000
    assert torch.equal(copy[0, 0].pixels, sample.pixels)
