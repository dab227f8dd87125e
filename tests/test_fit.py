"""The micro-batches of a training, for one process and for several."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from types import SimpleNamespace

import pytest
import torch

from sevila.benchmarks.synthetic import Synthetic
from sevila.config import load
from sevila.data.dataset import FrameDataset
from sevila.data.sampling import TrainingFrames
from sevila.data.video import CachedVideos
from sevila.fit import Batches


@pytest.fixture
def batches(small_world: list[str]) -> Callable[..., Batches]:
    """batches(rank, processes): 13 questions in batches of 3."""
    config = load("train", ["+exp=synthetic_forward", "trainer.batch_size=3", *small_world])
    world = Synthetic(**{key: value for key, value in config.data.items() if key != "name"})
    questions = world.questions("train")[:13]
    assert len(questions) == 13

    def make(rank: int = 0, processes: int = 1, device: str = "cpu", workers: int = 0) -> Batches:
        dataset = FrameDataset(questions, CachedVideos(16), world.folder(), TrainingFrames(2, 0))
        config.frames.workers = workers
        at = SimpleNamespace(process_index=rank, num_processes=processes, device=torch.device(device))
        return Batches(dataset, config, at)

    return make


def flat(lists: Iterable[list[str]]) -> list[str]:
    return list(chain.from_iterable(lists))


def qids(batches: Batches, epoch: int, skip: int = 0) -> list[list[str]]:
    return [[record.qid for record in batch.records] for batch in batches(epoch, skip)]


def test_one_process_sees_every_item_once_an_epoch(batches: Callable[..., Batches]) -> None:
    one = batches()
    epoch = qids(one, 0)
    assert one.count == 5 and [len(batch) for batch in epoch] == [3, 3, 3, 3, 1]
    assert sorted(flat(epoch)) == sorted(record.qid for record in one.dataset.records)
    assert epoch == qids(batches(), 0) != qids(one, 1)
    assert qids(one, 0, skip=3) == epoch[3:] and qids(one, 0, skip=5) == []


def test_processes_share_an_epoch_evenly(batches: Callable[..., Batches]) -> None:
    first, second = batches(0, 2), batches(1, 2)
    assert first.count == second.count == 2
    seen = qids(first, 0) + qids(second, 0)
    assert [len(batch) for batch in seen] == [3] * 4 and len(set(flat(seen))) == 12
    whole = flat(qids(batches(), 0))
    assert [flat(pair) for pair in zip(qids(first, 0), qids(second, 0), strict=True)] == [whole[:6], whole[6:12]]


def test_kept_workers_give_what_none_give_wherever_a_run_goes_on(batches: Callable[..., Batches]) -> None:
    """Frames and crops are those of the epoch, whichever worker draws them, and whatever it drew before."""
    alone, kept, resumed = batches(), batches(workers=2), batches(workers=2)
    with kept.loader, resumed.loader:
        for epoch, skip, other in ((0, 0, kept), (1, 0, kept), (2, 3, resumed), (2, 0, kept), (3, 0, resumed)):
            pairs = list(zip(alone(epoch, skip), other(epoch, skip), strict=True))
            assert len(pairs) == 5 - skip and all(a.indices == b.indices for a, b in pairs)
            assert all(a.records == b.records and torch.equal(a.pixels, b.pixels) for a, b in pairs)


def test_batches_are_pinned_for_a_gpu_alone(batches: Callable[..., Batches]) -> None:
    assert [batches(device=device).loader._loader.pin_memory for device in ("cpu", "cuda")] == [False, True]
