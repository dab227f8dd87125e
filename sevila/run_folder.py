"""The folder of a run: what was asked for, where it ran, what came out."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from sevila import __version__
from sevila.errors import UserError, machine_error
from sevila.files import (
    TEMPORARY_MARK,
    file_digest,
    json_line,
    naming,
    parse_jsonl,
    read_text,
    sweep,
    write_json,
    write_jsonl,
    write_text,
)
from sevila.locks import LOCK, FolderLock, Held
from sevila.schema import to_yaml

# What may differ when a run is resumed: nothing that could change its numbers.
FREE_ON_RESUME = (
    "resume", "run_dir", "device", "wandb", "frames.workers", "frames.cache_mb", "store.max_gb", "submission", "export",
)  # fmt: skip
CONFIG, ENVIRONMENT, METRICS, LOG = "config.yaml", "environment.json", "metrics.json", "metrics.jsonl"
PREDICTIONS, DROPPED, REPORT = "predictions.jsonl", "dropped.jsonl", "report.html"
KEYFRAMES, LABELS = "keyframes.jsonl", "pseudo_labels.jsonl"
SHOWN = 10.0  # seconds in which a file that one machine wrote must be seen on another
WRITTEN = {CONFIG, ENVIRONMENT, METRICS, LOG, PREDICTIONS, DROPPED, REPORT, KEYFRAMES, LABELS}


@dataclass
class RunFolder:
    """Where a run writes.

    At its start config.yaml and environment.json, while it goes on metrics.jsonl and checkpoints/, at its end
    metrics.json and predictions.jsonl. From `start` on it is locked: a second run in it is refused. It is used in a
    `with` block, whose end gives the lock back and turns what the machine refused (a full disk, no more memory, the
    folder gone) into a UserError that says what is kept.

    path      the folder; it is made by `start`, not before
    resumed   whether it holds a run to go on with
    free      whether the name was chosen here: then `start` takes the next one that nobody has
    """

    path: Path
    resumed: bool = False
    free: bool = False
    lock: FolderLock = field(default_factory=FolderLock)

    @classmethod
    def create(cls, run_dir: str | None, exp: str, resume: bool = False) -> RunFolder:
        """Choose the folder, `run_dir` or runs/EXP/TIME, and check it; nothing is written yet.

        With `resume` a folder that is missing or empty starts a run, so that a job can be sent again as is.
        UserError where run_dir holds something and `resume` is not set, where it holds no run to go on with,
        where another run is at work in it, and where it cannot be written to.
        """
        if run_dir is None:
            if resume:
                raise UserError("resume=true needs the run's folder: give run_dir=FOLDER")
            return cls(Path("runs") / exp / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"), free=True)
        path = Path(run_dir)
        if path.exists() and not path.is_dir():
            raise UserError(f"run_dir={path}: is a file, not a folder")
        parent = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"run_dir={path}: {parent} cannot be written to")
        resumed = _holds_run(path, resume)
        if (path / LOCK).exists():  # of a run that was killed, or that is alive
            probe = FolderLock()
            _acquire(probe, path, shared=True)
            probe.release()
        return cls(path, resumed)

    def start(self, config: Any, device: str) -> None:
        """Make the folder, lock it, and write config.yaml and environment.json.

        config   the checked configuration (a dataclass of `sevila.schema`)
        device   what the run computes on, as in `cpu` or `cuda:0`

        A resumed run keeps its config.yaml; UserError where a key differs that could change its numbers. UserError too
        where another run is at work in the folder or has begun in it since `create`.
        """
        self._claim()
        if self.resumed:
            _refuse_changes(self.path / CONFIG, asdict(config))
        else:
            write_text(self.path / CONFIG, to_yaml(config))
        sweep(self.path)  # what a killed run left: under the lock it is nobody else's
        write_json(self.path / ENVIRONMENT, environment(device, config.precision, config.model.source))

    def mark(self) -> str:
        """What tells this start of this folder from every other."""
        return file_digest(self.path / ENVIRONMENT)

    def check_shared(self, mark: str, process: int) -> None:
        """UserError where this `process` of several does not see the folder of this `mark`, which the first one made.

        A network's file system may show it a moment later.
        """
        until = time.monotonic() + SHOWN
        while not (self.path / ENVIRONMENT).is_file() or self.mark() != mark:
            if time.monotonic() > until:
                raise UserError(
                    f"run_dir={self.path}: process {process}, on {platform.node()}, does not see the folder "
                    "that process 0 made; several machines need run_dir on a disk that they share"
                )
            time.sleep(0.1)

    def _claim(self) -> None:
        with naming(self.path):
            if self.free:
                self.path = _made(self.path)
            else:
                self.path.mkdir(parents=True, exist_ok=True)
            _acquire(self.lock, self.path)
        if _holds_run(self.path, self.resumed) != self.resumed:
            raise UserError(f"run_dir={self.path}: has been emptied or taken by another run meanwhile; start again")

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        refused = machine_error(error)
        kept = self._kept() if refused is not None else ""
        with suppress(OSError):  # such as a folder that is gone: the lock goes all the same
            self.lock.release()
        if refused is not None:
            raise type(refused)(f"{refused}; {kept}") from error

    def _kept(self) -> str:
        """What is left of a run that the machine stopped."""
        if not (self.path / CONFIG).is_file():
            return f"of the run in {self.path} nothing is kept"
        last = self.checkpoints / "last"
        kept = f"its checkpoint {last.read_text().strip()}" if last.is_file() else "what it has written"
        return f"{self.path} keeps {kept}, and the same command with resume=true goes on from there"

    def _here(self) -> None:
        """OSError where the folder was removed, or another one stands in its place: it is not made anew."""
        if not self.lock.intact():
            raise OSError(errno.ENOENT, "The run folder was removed or replaced during the run", str(self.path))

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, step_N each; whoever writes one makes it."""
        return self.path / "checkpoints"

    @property
    def unfinished(self) -> Path:
        """The folder for what an evaluation has so far; it is gone when all is written."""
        return self.path / "unfinished"

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl; `row` has a `step`. At return other programs can read it."""
        self._here()
        path = self.path / LOG
        with naming(path), path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json_line(row))

    def rewind(self, step: int, evaluated: int) -> None:
        """Drop the lines of metrics.jsonl past `step`, validations past the step `evaluated`, and a half line."""
        path = self.path / LOG
        if not path.exists():
            return
        whole, _, _ = path.read_bytes().rpartition(b"\n")  # a killed run left half a line behind the last end
        try:
            rows = [row for _, row in parse_jsonl(whole.decode("utf-8"), path)]
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not a UTF-8 text file (byte {error.start}); restore it") from None
        for number, row in enumerate(rows, start=1):
            if not isinstance(row.get("step"), int):
                raise UserError(f"{path}, row {number}: has no step; restore the file or start a new run")
        write_jsonl(path, [row for row in rows if row["step"] <= (evaluated if _of_validation(row) else step)])

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """metrics.json: equal metrics give equal bytes. No times and no paths belong there."""
        self._here()
        write_json(self.path / METRICS, metrics)

    def write_dropped(self, rows: Sequence[Any]) -> None:
        """dropped.jsonl: what the data set left out because that was asked for, if anything; said on stderr too."""
        if rows:
            path = self.path / DROPPED
            write_jsonl(path, (row.to_json() for row in rows))
            print(f"sevila: {len(rows)} records were left out, listed in {path}", file=sys.stderr)

    def write_predictions(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """predictions.jsonl: one line a question."""
        self._here()
        write_jsonl(self.path / PREDICTIONS, rows)


def _of_validation(row: Mapping[str, Any]) -> bool:
    return any(key.startswith("val/") for key in row)


def environment(device: str, precision: str, model: str) -> dict[str, Any]:
    """Where a run runs: versions, machine, device, precision, model, commit, time."""
    packages = ("torch", "transformers", "accelerate", "numpy", "av")
    return {
        "sevila": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": device,
        "precision": precision,
        "model": model,
        "commit": _commit(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of the checkout that holds this file, `+changes` where its files differ; None outside of one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # an installed copy may lie inside someone else's repository
        return None
    try:
        head, status = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except FileNotFoundError:  # no git on this machine
        return None
    if head.returncode or status.returncode:
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def _acquire(lock: FolderLock, path: Path, shared: bool = False) -> None:
    try:
        lock.acquire(path, shared)
    except Held as holder:
        raise UserError(
            f"run_dir={path}: {holder} is at work in it; wait for its end, or name another folder"
        ) from None


def _holds_run(path: Path, resume: bool) -> bool:
    """Whether a folder holds a run to go on with; UserError where it holds something else, or that was not asked."""
    if not path.is_dir() or all(TEMPORARY_MARK in file.name or file.name == LOCK for file in path.iterdir()):
        return False
    if not resume:
        raise UserError(f"run_dir={path}: not empty; give another one, or resume=true to go on with it")
    if not (path / CONFIG).is_file():
        raise UserError(f"run_dir={path}: holds no run to resume (no {CONFIG})")
    return True


def _made(path: Path) -> Path:
    """The folder `path`, or `path-2`, `path-3`, ...: two runs may start in one second. Whoever makes it has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, candidate = 1, path
    while True:
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")


def check_not_of_run(key: str, path: Path, run_dir: str | None) -> None:
    """UserError for an output of the user's in the place of a file that a run writes, this one or another."""
    place = path.resolve()
    for folder in place.parents:
        of_run = (folder / CONFIG).is_file() and (folder / ENVIRONMENT).is_file()
        if not of_run and (run_dir is None or folder.resolve() != Path(run_dir).resolve()):
            continue
        if folder != place.parent or place.name in WRITTEN or place.with_suffix(".safetensors").exists():
            raise UserError(f"{key}={path}: is a file of the run in {folder}; name another one")


def check_not_of_data(key: str, path: Path, data: Mapping[str, Any]) -> None:
    """UserError for an output in the place of a file that lies in the data set's folder: it may be one of its own."""
    root = data.get("root")
    if isinstance(root, str) and path.exists() and path.resolve().is_relative_to(Path(root).resolve()):
        raise UserError(f"{key}={path}: is there already, in the data set's folder data.root={root}; name another file")


def _refuse_changes(file: Path, new: Mapping[str, Any]) -> None:
    try:
        old = yaml.safe_load(read_text(file))
    except yaml.YAMLError:
        old = None
    if not isinstance(old, dict) or not new.keys() <= old.keys():
        raise UserError(f"{file}: is empty, cut off or of another version; restore it, or start in another folder")
    old, new = settings(old), settings(new)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise UserError(
                f"run_dir={file.parent}: started with {key}={old.get(key)}, now {key}={new.get(key)}; "
                "resume with the same, or start in another folder"
            )


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's keys, `group.key`, and values that must not differ on resuming, nor among processes."""
    free = tuple(f"{name}." for name in FREE_ON_RESUME)
    return {key: value for key, value in _flat(config) if not f"{key}.".startswith(free)}


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
