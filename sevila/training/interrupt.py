"""SIGTERM, turned into a request that the loop answers between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(SystemExit):
    """The run was asked to stop and has saved itself; leaves the process with code 143 (128 + SIGTERM)."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interrupted(BaseException):
    """Raised by SIGTERM inside `Sigterm.at_once`. No Exception, so that nobody swallows it."""


class Sigterm:
    """While entered, SIGTERM only sets `requested`. Does nothing outside the main thread."""

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> Sigterm:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._handle)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._previous)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, SIGTERM raises `Interrupted`: for long work that changes nothing, such as evaluation."""
        self._at_once = True
        try:
            if self.requested:
                raise Interrupted
            yield
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self._at_once:
            raise Interrupted
