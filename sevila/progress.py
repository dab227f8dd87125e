"""A progress bar over anything that is walked once: rate and time left, plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")
PLAIN_SECONDS = 20.0  # between two lines where there is no terminal


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


def track(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield the items and show how far they are, on stderr."""
    console = Console(file=sys.stderr)
    if console.is_terminal:
        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            yield from bar.track(items, total=total, description=label)
        return
    start = told = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - told >= PLAIN_SECONDS and done < total:
            told, pace = now, done / (now - start)
            left = (total - done) / pace
            print(f"{label}  {done}/{total}  {pace:.1f}/s  {left:.0f} s left", file=sys.stderr, flush=True)
    print(f"{label}  {done}/{total}  in {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
