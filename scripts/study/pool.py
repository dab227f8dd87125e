"""Processes that make runs, one after another each: the libraries are imported once, one thread computes in each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from sevila.errors import UserError
from study.rows import CHOOSE, choose

PATIENCE = 30.0  # seconds that a process has to save its run when it is asked to stop


@dataclass(frozen=True)
class Task:
    """A command of an entry point, `python -m sevila.ENTRY WORDS`, or of `choose`; and the file for what it prints."""

    entry: str
    words: tuple[str, ...]
    log: Path


@dataclass(frozen=True)
class Ended:
    """How a task ended: what went wrong (None: nothing), and how long it took."""

    key: Any
    error: str | None
    seconds: float


class Pool:
    """So many worker processes. Use `open_pool`, which ends them."""

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
        self._busy: dict[Connection, tuple[Any, float]] = {}
        self._idle: list[Connection] = []
        self._processes = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,))
            process.start()
            theirs.close()  # so that the end of either process is seen by the other
            self._processes.append(process)
            self._idle.append(ours)

    @property
    def free(self) -> int:
        """Processes with nothing to do."""
        return len(self._idle)

    def begin(self, key: Any, task: Task) -> None:
        """Let a free process do a task; `key` comes back with its end."""
        worker = self._idle.pop()
        self._busy[worker] = key, time.monotonic()
        with suppress(ConnectionError):  # of a process that has died, as `ended` will find
            worker.send(task)

    def ended(self) -> list[Ended]:
        """Wait until tasks have ended."""
        out = []
        for worker in wait(list(self._busy)):
            key, begun = self._busy.pop(worker)
            try:
                error = worker.recv()
                self._idle.append(worker)
            except (EOFError, ConnectionError):
                error = "its process died (killed, or out of memory)"
            out.append(Ended(key, error, time.monotonic() - begun))
        return out

    def close(self) -> None:
        """End the processes; trainings under way save themselves."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()


@contextmanager
def open_pool(workers: int) -> Iterator[Pool]:
    """A pool whose processes compute with one thread each; they end with the block."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read when a process imports its libraries
    try:
        pool = Pool(workers)
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    try:
        yield pool
    finally:
        pool.close()


def _serve(pipe: Connection) -> None:
    """What a worker does: tasks, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends this one
    import torch

    torch.set_num_threads(1)
    while True:
        try:
            pipe.send(perform(pipe.recv()))
        except (EOFError, ConnectionError):
            return


def perform(task: Task) -> str | None:
    """Do a task in this process; what went wrong in one line, or None."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("a", encoding="utf-8", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        print(f"$ {'' if task.entry == CHOOSE else 'python -m sevila.'}{task.entry} {' '.join(task.words)}")
        try:
            _do(task)
        except UserError as error:
            print(f"sevila: error: {error}", file=sys.stderr)
            return str(error)
        except Exception as error:
            traceback.print_exc()
            return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def _do(task: Task) -> None:
    from sevila import eval as evaluation
    from sevila import refine, train
    from sevila.config import load

    if task.entry == CHOOSE:
        run_dir, rule, k, out = task.words
        choose(Path(run_dir), rule, int(k), Path(out))
        return
    entries: dict[str, Callable[[Any], Any]] = {"train": train.run, "refine": refine.run, "eval": evaluation.run}
    entries[task.entry](load(task.entry, task.words))
