"""What a DataLoader gives, with and without worker processes, when records are faulty too."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sevila.cli import guarded
from sevila.data import loading
from sevila.data.dataset import FrameDataset
from sevila.data.folders import VideoFolder
from sevila.data.loading import Loader, stream
from sevila.data.records import Question
from sevila.data.sampling import EvaluationFrames, TrainingFrames, ordered_keys
from sevila.data.store import Store
from sevila.data.video import CachedVideos
from sevila.errors import UserError


@pytest.fixture
def dataset(encode: Callable[..., Path], tmp_path: Path) -> FrameDataset:
    encode("v.mp4", 12)
    records = [Question(f"q{i}", "v" if i != 3 else "lost", "what?", ("a", "b"), 0) for i in range(5)]
    return FrameDataset(records, CachedVideos(32), VideoFolder(tmp_path), EvaluationFrames(2))


def no_children_left(within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_is_its_own_error_after_what_came_before(dataset: FrameDataset, workers: int) -> None:
    samples = stream(dataset, workers, ordered_keys(5))
    assert [next(samples).record.qid for _ in range(3)] == ["q0", "q1", "q2"]
    with pytest.raises(UserError, match=r"^record q3 \(video lost\): video 'lost' is not in [^\n]*$") as caught:
        next(samples)
    assert no_children_left()  # though the workers ignore SIGTERM, and `caught` holds the frames
    assert caught.value is not None


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_shows_where_it_is(dataset: FrameDataset, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EvaluationFrames, "transform", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match=r"(?s)test_stream\.py.*ZeroDivisionError"):
        next(stream(dataset, workers, [[(0, 0)]]))
    assert no_children_left()


def test_batches_are_the_same_with_workers(dataset: FrameDataset) -> None:
    keys = [[(0, 4), (0, 0)], [(1, 2)]]
    here = list(stream(dataset, 0, keys))
    there = list(stream(dataset, 1, keys))
    assert [[record.qid for record in batch.records] for batch in here] == [["q4", "q0"], ["q2"]]
    assert [batch.indices for batch in there] == [[[3, 9], [3, 9]], [[3, 9]]]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(here, there, strict=True))
    with pytest.raises(UserError, match="record q3"):
        list(stream(dataset, 0, [[(0, 2), (0, 3)]]))


def test_workers_end_when_nobody_listens_any_more(dataset: FrameDataset) -> None:
    state = torch.get_rng_state()
    samples = stream(dataset, 1, ordered_keys(3))
    next(samples)
    assert multiprocessing.active_children()
    samples.close()
    assert no_children_left() and torch.equal(torch.get_rng_state(), state)


def test_workers_survive_a_signal_to_all_processes(dataset: FrameDataset) -> None:
    samples = stream(dataset, 1, [*ordered_keys(3), *ordered_keys(3)])  # more than it loads ahead
    assert next(samples).record.qid == "q0"
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGTERM)
    assert [sample.record.qid for sample in samples] == ["q1", "q2", "q0", "q1", "q2"]


def test_a_signal_to_all_while_the_workers_start(dataset: FrameDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a worker has learned to leave it to the main process; as a scheduler sends it."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    plain = loading.ignore_sigterm

    def late(worker: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as torch leaves it until here
        os.kill(os.getpid(), signal.SIGTERM)
        plain(worker)

    monkeypatch.setattr(loading, "ignore_sigterm", late)
    try:
        samples = stream(dataset, 1, ordered_keys(3))
        assert [sample.record.qid for sample in samples] == ["q0", "q1", "q2"]
        os.kill(os.getpid(), signal.SIGTERM)  # and the main process hears it again
        assert heard == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_worker_that_was_killed_is_one_line(
    dataset: FrameDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """At its work, as by a system that is short of memory."""
    monkeypatch.setattr(EvaluationFrames, "transform", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    samples = stream(dataset, 1, ordered_keys(3))
    assert guarded(lambda: list(samples)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sevila: error: DataLoader worker (pid") and line.endswith("then lower frames.workers")
    assert no_children_left()


@pytest.mark.parametrize("workers", [0, 1])
def test_what_the_machine_refuses_a_worker_is_told_as_such(
    dataset: FrameDataset, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(EvaluationFrames, "transform", refused)
    with pytest.raises(OSError) as raised:
        next(stream(dataset, workers, ordered_keys(3)))
    assert raised.value.errno == errno.ENOMEM and no_children_left()


# -- workers that stay ---


def test_workers_stay_from_pass_to_pass(dataset: FrameDataset) -> None:
    passes = [[[(epoch, 0), (epoch, 4)], [(epoch, 2)]] for epoch in range(3)]
    with Loader(dataset, 2) as loader:
        assert multiprocessing.active_children() == []  # none before somebody asks
        workers, state = [], torch.get_rng_state()
        for keys in passes:
            batches = list(loader(keys))
            assert [[record.qid for record in batch.records] for batch in batches] == [["q0", "q4"], ["q2"]]
            workers.append({worker.pid for worker in multiprocessing.active_children()})
        assert torch.equal(torch.get_rng_state(), state)
    assert workers[0] == workers[1] == workers[2] and len(workers[0]) == 2 and no_children_left()


def test_a_pass_that_was_left_does_not_disturb_the_next(dataset: FrameDataset) -> None:
    with Loader(dataset, 2) as loader:
        left = loader([(0, 0), (0, 1), (0, 2), (0, 4), (0, 0), (0, 1)])
        assert next(left).record.qid == "q0"
        left.close()
        assert [sample.record.qid for sample in loader([(1, 4), (1, 2), (1, 1)])] == ["q4", "q2", "q1"]
        assert list(loader([])) == []
        assert [sample.record.qid for sample in loader([(2, 0)])] == ["q0"]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_random_follows_from_the_key_alone(dataset: FrameDataset, workers: int) -> None:
    dataset.rule = TrainingFrames(3, seed=5)
    passes = [[[(epoch, 0), (epoch, 1)], [(epoch, 4)]] for epoch in range(3)]
    with Loader(dataset, workers) as loader:
        kept = [list(loader(keys)) for keys in passes]
    for keys, batches in zip(passes, kept, strict=True):
        alone = [dataset.load(key) for key in keys]
        assert [batch.indices for batch in batches] == [batch.indices for batch in alone]
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(batches, alone, strict=True))
    assert not torch.equal(kept[0][0].pixels, kept[1][0].pixels)


def test_kept_workers_end_with_the_run_that_fails(dataset: FrameDataset) -> None:
    with pytest.raises(UserError, match="record q3") as caught, Loader(dataset, 2) as loader:
        assert len(list(loader([(0, 0), (0, 1)]))) == 2
        list(loader([(1, 3)]))
    assert no_children_left() and caught.value is not None


def test_what_a_pass_added_to_the_store_is_found_in_the_next(
    dataset: FrameDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.store = Store(tmp_path / "store", {"tower": "means"}, torch.float32)
    plain = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (time.sleep(0.05), plain(handle)))  # a slow disk
    with Loader(dataset, 1) as loader:
        for epoch in range(2):
            for sample in loader([(epoch, 0), (epoch, 1)]):
                fresh = sample.pixels.float().mean((-2, -1))[..., None]
                assert len(fresh) == (0 if epoch else 2)
                sample.stored.keep(fresh)
            assert len(list((tmp_path / "store").rglob("2-*.safetensors"))) == 1  # all is there when a pass is over


def test_a_damaged_file_that_was_made_again_is_found_in_the_next_pass(dataset: FrameDataset, tmp_path: Path) -> None:
    """By the worker, too, that passed the damaged one over."""
    dataset.store, fresh = Store(tmp_path / "store", {"tower": "means"}, torch.float32), []
    with Loader(dataset, 1) as loader:
        for epoch in range(3):
            for sample in loader([(epoch, 0)]):
                fresh.append(len(sample.pixels))
                if fresh[-1]:
                    sample.stored.keep(sample.pixels.float().mean((-2, -1))[..., None])
            if epoch == 0:
                (file,) = (tmp_path / "store").rglob("2-*.safetensors")
                file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert fresh == [2, 2, 0]


def test_workers_hold_no_more_files_in_the_tenth_pass_than_in_the_first(dataset: FrameDataset) -> None:
    with Loader(dataset, 1) as loader:
        handles = []
        for epoch in range(10):
            assert len(list(loader([(epoch, 0), (epoch, 1), (epoch, 2)]))) == 3
            (worker,) = multiprocessing.active_children()
            handles.append(len(os.listdir(f"/proc/{worker.pid}/fd")))
    assert max(handles[1:]) <= handles[0] + 2


def test_what_the_model_gets_is_pinned(dataset: FrameDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no GPU nothing can be: which tensors it is asked of."""
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    sample = dataset.load((0, 0))
    assert sample.pin_memory().frames is sample.frames and [id(t) for t in pinned] == [id(sample.pixels)]
    dataset.store = Store(tmp_path / "store", {"tower": "means"}, torch.float32)
    dataset.load((0, 0)).stored.keep(torch.ones(2, 3, 1))
    dataset.fixed_indices = {"q0": [3, 5], "q1": [9]}  # the store lacks one of these three
    batch = dataset.load([(0, 0), (0, 1)])
    pinned.clear()
    batch.pin_memory()
    assert [id(t) for t in pinned[-3:]] == [id(batch.stored.patches), id(batch.pixels), id(batch.mask)]
