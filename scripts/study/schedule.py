"""Which runs there are to make, in which order, by how many processes; and how long they took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from reproduction.runs import Ledger, Run, Settings, jobs
from sevila.errors import UserError
from sevila.files import read_json, write_json
from study.pool import Pool, Task, open_pool
from study.rows import CHOOSE, Chosen


@dataclass(frozen=True, eq=False)
class Job:
    """A run of one world and seed, its folder (or file), and those that must be finished before it begins."""

    folder: Path
    needs: tuple[Path, ...]
    run: Run
    seed: int
    settings: Settings

    @property
    def task(self) -> Task:
        log = self.folder.with_name(f"{self.folder.name}.log")
        if isinstance(self.run, Chosen):
            given = dict(self.run.options)
            return Task(CHOOSE, (str(self.needs[0]), str(given["rule"]), str(given["k"]), str(self.folder)), log)
        return Task(self.run.entry, tuple(self.settings.words(self.run, self.seed)), log)

    @property
    def done(self) -> bool:
        return self.folder.is_file() or (self.folder / "metrics.json").exists()


@dataclass(frozen=True)
class Worlds:
    """Where runs stand: ROOT/world_W/[seed_S/]NAME.

    words   further words of every command, each with its scope (an experiment, or "" for all)
    """

    root: Path
    words: tuple[tuple[str, str], ...] = ()

    def settings(self, world: int) -> Settings:
        return Settings(self.root / f"world_{world}", extra=(("", f"data.seed={world}"), *self.words))

    def folder(self, world: int, run: Run, seed: int) -> Path:
        return self.settings(world).folder(run, seed)

    def jobs(self, runs: Sequence[Run], worlds: Sequence[int], seeds: Sequence[int]) -> list[Job]:
        """Every run and what it needs, once a world or once a world and seed; each after those it needs."""
        out = []
        for world in worlds:
            settings = self.settings(world)
            for run, seed in jobs(runs, seeds):
                needs = tuple(settings.folder(needed, seed) for needed in run.needs)
                out.append(Job(settings.folder(run, seed), needs, run, seed, settings))
        return out


class Times:
    """ROOT/times.json: seconds that each run took, and that all calls took together (the sum is the wall time)."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / "times.json"
        known = read_json(self.path) if self.path.exists() else {"runs": {}, "wall": 0.0}
        self.runs: dict[str, float] = known["runs"]
        self.wall: float = known["wall"]
        self._told = time.monotonic()

    def add(self, job: Job, seconds: float) -> None:
        """A run has ended; one that was interrupted took the time of all its calls."""
        key, now = self._key(job), time.monotonic()
        self.runs[key] = round(self.runs.get(key, 0.0) + seconds, 1)
        self.wall, self._told = round(self.wall + now - self._told, 1), now
        write_json(self.path, {"runs": self.runs, "wall": self.wall})

    def left(self, todo: Iterable[Job], known: Iterable[Job], workers: int) -> float | None:
        """Seconds that `todo` will take, as long as those of the same name took in other worlds and seeds.

        Else as long as runs of the same experiment, or as all on average; None where nothing has been timed.
        """
        by_name: dict[str, list[float]] = {}
        for job in known:
            seconds = self.runs.get(self._key(job))
            if seconds is not None:
                for name in (job.run.name, job.run.exp, ""):
                    by_name.setdefault(name, []).append(seconds)
        if not by_name:
            return None
        total = 0.0
        for job in todo:
            name = next(name for name in (job.run.name, job.run.exp, "") if name in by_name)
            total += fmean(by_name[name])
        return total / workers

    def _key(self, job: Job) -> str:
        return job.folder.relative_to(self.root).as_posix()


def make(todo: Sequence[Job], root: Path, workers: int) -> None:
    """Make all runs that are not finished. UserError names the first that fails; the others are stopped then."""
    ledgers = {job.settings.root: Ledger(job.settings) for job in todo}
    for job in todo:
        ledgers[job.settings.root].check(job.run, job.seed)
    missing = [job for job in todo if not job.done]
    print(f"{len(todo)} runs, {len(todo) - len(missing)} of them done before", file=sys.stderr, flush=True)
    if not missing:
        return
    with open_pool(min(workers, len(missing))) as pool:
        _walk(todo, missing, pool, Times(root), workers, ledgers)


def _walk(
    todo: Sequence[Job],
    missing: list[Job],
    pool: Pool,
    times: Times,
    workers: int,
    ledgers: Mapping[Path, Ledger],
) -> None:
    """Begin what is ready, in the order of `todo`, whenever a process is free."""
    finished = {job.folder for job in todo if job.done}
    waiting, running = list(missing), set()
    done = len(todo) - len(missing)
    while waiting or running:
        for job in [job for job in waiting if finished.issuperset(job.needs)][: pool.free]:
            ledgers[job.settings.root].add(job.run, job.seed)
            waiting.remove(job)
            running.add(job)
            pool.begin(job, job.task)
        for end in pool.ended():
            job = end.key
            running.remove(job)
            if end.error is not None:
                raise UserError(f"{job.folder}: {end.error} (see {job.task.log}); the same call goes on from there")
            finished.add(job.folder)
            done += 1
            times.add(job, end.seconds)
            left = times.left([*waiting, *running], todo, workers)
            _tell(job, end.seconds, f"{done}/{len(todo)}", left)


def _tell(job: Job, seconds: float, count: str, left: float | None) -> None:
    place = f"{job.settings.root.name} seed {job.seed}" if job.run.trained else job.settings.root.name
    rest = f"  {duration(left)} left" if left else ""
    print(f"{count}  {place}  {job.run.name}  {seconds:.0f} s{rest}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as one reads them: 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# -- where the runs come from ---


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
