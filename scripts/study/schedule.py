"""Which runs there are to make, in which order, by how many processes; and how long they took."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from statistics import fmean
from typing import Any

from reproduction.runs import Ledger, Run, Settings, jobs
from sevila.errors import UserError
from sevila.files import read_json, write_json
from study.rows import CHOOSE, Chosen, choose

# -- processes that make runs, one after another each: the libraries are imported once, one thread computes in each ---

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


# -- the runs and their order ---


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
