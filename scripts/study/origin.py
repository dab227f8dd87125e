"""Where the runs of the study come from: commits, versions, machines, time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sevila.files import read_json
from study.choices import CHOOSE
from study.schedule import Job, Times


def environment(
    jobs: Sequence[Job], root: Path, worlds: Sequence[int], seeds: Sequence[int], words: Sequence[str]
) -> dict[str, Any]:
    """Where the finished runs come from, by what they wrote themselves: equal runs give an equal answer."""
    jobs = [job for job in jobs if job.run.entry != CHOOSE]
    done = [job for job in jobs if job.done]
    read = [read_json(job.folder / "environment.json") for job in done]
    times = Times(root)
    names = sorted({name for one in read for name in one["packages"]})
    versions = {
        "sevila": _different(one["sevila"] for one in read),
        "python": _different(one["python"] for one in read),
    }
    versions |= {name: _different(one["packages"][name] for one in read) for name in names}
    folders = {job.folder.relative_to(root).as_posix() for job in done}
    return {
        "worlds": list(worlds),
        "seeds": list(seeds),
        "set": list(words),
        "runs": len(done),
        "runs_missing": len(jobs) - len(done),
        "run_seconds": round(sum(seconds for name, seconds in times.runs.items() if name in folders), 1),
        "wall_seconds": times.wall,
        "commits": _different(one["commit"] for one in read),
        "versions": versions,
        "platforms": _different(f"{one['platform']}, {one['cpus']} CPUs" for one in read),
        "devices": _different(one["device"] for one in read),
        "started": min((one["started"] for one in read), default=None),
    }


def _different(values: Iterator[Any]) -> list[str]:
    return sorted({str(value) for value in values})
