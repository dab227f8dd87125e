"""How far a work is, on stderr: a bar on a terminal, plain lines elsewhere; the rate and the time left in both."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

T = TypeVar("T")
FIRST_SECONDS, PLAIN_SECONDS = 5.0, 20.0  # to the first line where there is no terminal, and between two


class ProgressBar:
    """A context manager around a work. Several processes of one run show that of the first.

    label   what is done
    total   units of work, `done` of which were done before
    unit    what a unit is called, such as "step"
    quiet   show nothing
    """

    _open: ClassVar[list[ProgressBar]] = []  # the innermost is the last

    def __init__(self, label: str, total: int, done: int = 0, unit: str = "", quiet: bool = False) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.quiet = quiet or os.environ.get("RANK", "0") != "0"
        self._first, self._start = done, time.monotonic()
        self._next = self._start + FIRST_SECONDS  # when a line is due
        self._silent = True
        self._inner = False
        self._display: Progress | None = None
        self._row = TaskID(0)

    def __enter__(self) -> ProgressBar:
        outer = next((bar._display for bar in reversed(self._open) if bar._display is not None), None)
        self._inner = bool(self._open)
        console = Console(file=sys.stderr)
        if console.is_terminal and not self.quiet:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            # rich shows one display at a time: a bar within another one is a row of it
            self._display = outer or Progress(*columns, console=console)
            self._display.start()
            self._row = self._display.add_task(self.label, total=self.total, completed=self._first, note="")
        self._open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.remove(self)
        if self._display is not None and self._inner:
            self._display.remove_task(self._row)
        elif self._display is not None:
            self._display.stop()

    def update(self, done: int, text: str = "") -> None:
        """So much is done. Moves the bar; without a terminal it is a line now and then."""
        if self._display is not None:
            self._display.update(self._row, completed=done, note=f"{text}  {self.pace(done)}".strip())
        elif time.monotonic() >= self._next and done < self.total:
            self.note(done, text)

    def note(self, done: int, text: str) -> None:
        """A line that stays: a logged average, a metric. On a terminal it appears above the bar."""
        parts = [self.label, f"{self.unit} {done}/{self.total}".strip(), text]
        self.say("  ".join(filter(None, parts if self._display is not None else [*parts, self.pace(done)])))

    def say(self, line: str) -> None:
        """A line on stderr as it is, above the bar where there is one."""
        self._next, self._silent = time.monotonic() + PLAIN_SECONDS, False
        if self._display is not None:
            self._display.console.print(line, highlight=False, markup=False)
        elif not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def finish(self, done: int) -> None:
        """Without a terminal the last line: how long it took; none for work within other work that had no line yet."""
        seconds = time.monotonic() - self._start
        if self._display is None and not (self._inner and self._silent):
            self.say(f"{self.label}  {done}/{self.total}  in {seconds:.1f} s")

    def pace(self, done: int) -> str:
        """Such as "3.1 steps/s  0:01:20 left", "12.4 s/step  ..." where it is slow; nothing before the first unit."""
        elapsed, units = time.monotonic() - self._start, done - self._first
        if units < 1 or elapsed <= 0:
            return ""
        rate = units / elapsed
        slow = f"{1 / rate:.1f} s/{self.unit}" if self.unit else f"{1 / rate:.1f} s each"
        fast = f"{rate:.1f} {self.unit}s/s" if self.unit else f"{rate:.1f}/s"
        return f"{fast if rate >= 1 else slow}  {clock((self.total - done) / rate)} left"


def track(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield the items and show how far they are."""
    with ProgressBar(label, total) as bar:
        done = 0
        for done, item in enumerate(items, start=1):
            yield item
            bar.update(done)
        bar.finish(done)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
