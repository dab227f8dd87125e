"""How far a run is: a rich bar on a terminal, plain lines elsewhere; the rate and the time left in both."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class ProgressBar:
    """A context manager around training. `label` names the run, `done` of `total` steps were done before."""

    def __init__(self, label: str, done: int, total: int, quiet: bool = False) -> None:
        self._label, self._total = label, total
        self._start, self._first = time.monotonic(), done
        self._quiet = quiet
        self._bar: Progress | None = None
        console = Console(file=sys.stderr)
        if console.is_terminal and not quiet:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(label, total=total, completed=done, note="")

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int, loss: float) -> None:
        """Move the bar (on a terminal)."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=f"loss {loss:.4f}  {self.pace(done)}")

    def note(self, done: int, text: str) -> None:
        """A line that stays: a logged average, a metric. On a terminal it appears above the bar."""
        line = f"{self._label}  step {done}/{self._total}  {text}"
        self.say(line if self._bar is not None else f"{line}  {self.pace(done)}".rstrip())

    def say(self, line: str) -> None:
        """A line on stderr as it is, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        elif not self._quiet:
            print(line, file=sys.stderr, flush=True)

    def pace(self, done: int) -> str:
        """Such as "3.1 steps/s  0:01:20 left"; nothing before the first step."""
        elapsed = time.monotonic() - self._start
        steps = done - self._first
        if steps < 1 or elapsed <= 0:
            return ""
        rate = steps / elapsed
        speed = f"{rate:.1f} steps/s" if rate >= 1 else f"{1 / rate:.1f} s/step"
        return f"{speed}  {clock((self._total - done) / rate)} left"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
