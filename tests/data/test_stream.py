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
from sevila.data import dataset as loading
from sevila.data.dataset import FrameDataset, stream
from sevila.data.folders import VideoFolder
from sevila.data.records import Question
from sevila.data.sampling import EvaluationFrames, ordered_keys
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
    samples = stream(dataset, workers, batch_size=None, sampler=ordered_keys(5))
    assert [next(samples).record.qid for _ in range(3)] == ["q0", "q1", "q2"]
    with pytest.raises(UserError, match=r"^record q3 \(video lost\): video 'lost' is not in [^\n]*$") as caught:
        next(samples)
    assert no_children_left()  # though the workers ignore SIGTERM, and `caught` holds the frames
    assert caught.value is not None


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_shows_where_it_is(dataset: FrameDataset, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EvaluationFrames, "transform", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match=r"(?s)test_stream\.py.*ZeroDivisionError"):
        next(stream(dataset, workers, batch_sampler=[[(0, 0)]]))
    assert no_children_left()


def test_batches_are_the_same_with_workers(dataset: FrameDataset) -> None:
    keys = [[(0, 4), (0, 0)], [(1, 2)]]
    here = list(stream(dataset, 0, batch_sampler=keys))
    there = list(stream(dataset, 1, batch_sampler=keys))
    assert [[record.qid for record in batch.records] for batch in here] == [["q4", "q0"], ["q2"]]
    assert [batch.indices for batch in there] == [[[3, 9], [3, 9]], [[3, 9]]]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(here, there, strict=True))
    with pytest.raises(UserError, match="record q3"):
        list(stream(dataset, 0, batch_sampler=[[(0, 2), (0, 3)]]))


def test_workers_end_when_nobody_listens_any_more(dataset: FrameDataset) -> None:
    state = torch.get_rng_state()
    samples = stream(dataset, 1, batch_size=None, sampler=ordered_keys(3))
    next(samples)
    assert multiprocessing.active_children()
    samples.close()
    assert no_children_left() and torch.equal(torch.get_rng_state(), state)


def test_workers_survive_a_signal_to_all_processes(dataset: FrameDataset) -> None:
    samples = stream(dataset, 1, batch_size=None, sampler=ordered_keys(3), prefetch_factor=1)
    assert next(samples).record.qid == "q0"
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGTERM)
    assert [sample.record.qid for sample in samples] == ["q1", "q2"]


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
        samples = stream(dataset, 1, batch_size=None, sampler=ordered_keys(3))
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
    samples = stream(dataset, 1, batch_size=None, sampler=ordered_keys(3))
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
        next(stream(dataset, workers, batch_size=None, sampler=ordered_keys(3)))
    assert raised.value.errno == errno.ENOMEM and no_children_left()
