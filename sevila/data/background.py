"""Files that are written while the main thread goes on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

WAITING = 512 * 2**20  # bytes that may wait to be written


@dataclass(frozen=True)
class _Job:
    file: Path
    size: int
    done: Future[None]


class BackgroundWriter:
    """Writes files one after the other, in a thread that there is only while something is to be written.

    most   bytes that may wait; who brings more waits until the oldest are written

    What a job raises is raised here, once, by the next call: it is never lost. `flush` at the end. A process that is
    forked, or that gets a copy, has nothing to write.
    """

    def __init__(self, most: int = WAITING) -> None:
        self.most = most
        self._start_empty()

    def _start_empty(self) -> None:
        self._process = os.getpid()
        self._jobs: deque[_Job] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def write(self, file: Path, size: int, job: Callable[[], None]) -> None:
        """Let the thread do what writes `size` bytes to a file."""
        while (jobs := self._left()) and sum(job.size for job in jobs) + size > self.most:
            self._finish_oldest()
        self._thread = self._thread or ThreadPoolExecutor(1, "writer")
        self._jobs.append(_Job(file, size, self._thread.submit(job)))

    def writes(self, file: Path) -> bool:
        """Whether that file is to be written yet."""
        return any(job.file == file for job in self._left())

    def wait(self, folder: Path) -> None:
        """Until all is written that goes into a folder."""
        while any(job.file.parent == folder for job in self._left()):
            self._finish_oldest()

    def flush(self) -> None:
        """Until all is written; then there is no thread any more."""
        while self._left():
            self._finish_oldest()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _finish_oldest(self) -> None:
        wait([self._jobs[0].done])  # a signal may end this, and the job stays
        self._jobs.popleft().done.result()

    def _left(self) -> deque[_Job]:
        """The jobs that are not done yet."""
        if self._process != os.getpid():  # a forked process: these are its parent's, and it has no thread for them
            self._start_empty()
        while self._jobs and self._jobs[0].done.done():
            self._finish_oldest()
        return self._jobs

    def __getstate__(self) -> dict[str, int]:
        return {"most": self.most}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(**state)  # type: ignore[misc]
