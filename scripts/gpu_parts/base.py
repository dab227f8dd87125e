"""What a part is told, what it finds, and how it is run: by a process of its own, within a limit of seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sevila.files import read_json
from sevila.report.terminal import Cell

PASSED, MISSED, FAILED, TIMED_OUT, NOT_REACHED = "passed", "missed", "failed", "timed out", "not reached"
TAIL = 12  # lines of what a process said that an outcome keeps


@dataclass(frozen=True)
class Setting:
    """What every part is told.

    device   of the check, as in `cuda`; `cpu` for a dry run
    small    a tiny model in the place of ViT-g and Flan-T5 XL, and few steps
    work     folder for what the parts leave to each other, such as the drawn world
    """

    device: str
    small: bool
    work: Path

    @property
    def gpu(self) -> bool:
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `passed` is None where it is told and not judged."""

    what: str
    found: str
    wanted: str = ""
    passed: bool | None = None


@dataclass(frozen=True)
class Grid:
    """A table."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Lines:
    """A chart: a number over the steps, a line a name."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Found:
    """What a part found."""

    checks: Sequence[Check] = ()
    grids: Sequence[Grid] = ()
    charts: Sequence[Lines] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Found:
        """From what `to_json` gave."""
        checks = [Check(**check) for check in row["checks"]]
        return cls(checks, [Grid(**grid) for grid in row["grids"]], [Lines(**chart) for chart in row["charts"]])


@dataclass(frozen=True)
class Part:
    """`limit` is in seconds, the start of its process included."""

    name: str
    title: str
    limit: float
    find: Callable[[Setting], Found]


@dataclass(frozen=True)
class Outcome:
    """How a part ended. `found` is None unless its process ended well; `tail` is what it said last."""

    name: str
    title: str
    state: str
    seconds: float
    limit: float
    found: Found | None = None
    tail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def conduct(part: Part, command: Sequence[str], work: Path, left: float) -> Outcome:
    """Run a part's command, which leaves `NAME.json` in `work`, within its limit and the `left` seconds of the whole.

    Whatever it started ends with it. Nothing that goes wrong in it goes wrong here.
    """
    limit = min(part.limit, left)
    if limit <= 0:
        return Outcome(part.name, part.title, NOT_REACHED, 0.0, part.limit)
    log, started = work / f"{part.name}.log", time.monotonic()
    with log.open("wb") as told:
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
    seconds = round(time.monotonic() - started, 1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
    if code is None:
        return Outcome(part.name, part.title, TIMED_OUT, seconds, limit, tail=tail)
    left_by_it = work / f"{part.name}.json"
    if code != 0 or not left_by_it.exists():
        return Outcome(part.name, part.title, FAILED, seconds, limit, tail=tail or f"exit code {code}, no results")
    found = Found.of(read_json(left_by_it))
    missed = any(check.passed is False for check in found.checks)
    return Outcome(part.name, part.title, MISSED if missed else PASSED, seconds, limit, found, tail)


def _end_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a group of its own, and whatever it started that is still there."""
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
