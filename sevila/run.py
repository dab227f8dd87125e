"""The folder of a run: what was asked for, where it ran, what came out."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from sevila import __version__
from sevila.errors import UserError
from sevila.files import (
    TEMPORARY_MARK,
    json_line,
    parse_jsonl,
    read_text,
    write_json,
    write_jsonl,
    write_text,
)
from sevila.schema import to_yaml

# What may differ when a run is resumed: nothing that could change its numbers.
FREE_ON_RESUME = (
    "resume", "run_dir", "device", "wandb", "frames.workers", "frames.cache_mb", "store.max_gb", "submission", "export",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Where a run writes.

    At its start config.yaml and environment.json, while it goes on metrics.jsonl and checkpoints/, at its end
    metrics.json and predictions.jsonl.

    path      the folder; it is made by `start`, not before
    resumed   whether it holds a run to go on with
    """

    path: Path
    resumed: bool = False

    @classmethod
    def create(cls, run_dir: str | None, exp: str, resume: bool = False) -> RunFolder:
        """Choose the folder, `run_dir` or runs/EXP/TIME, and check it; nothing is written yet.

        With `resume` a folder that is missing or empty starts a run, so that a job can be sent again as is.
        UserError where run_dir holds something and `resume` is not set, where it holds no run to go on with,
        and where it cannot be written to.
        """
        if run_dir is None:
            if resume:
                raise UserError("resume=true needs the run's folder: give run_dir=FOLDER")
            path = _unused(Path("runs") / exp / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
        else:
            path = Path(run_dir)
        if path.exists() and not path.is_dir():
            raise UserError(f"run_dir={path}: is a file, not a folder")
        parent = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"run_dir={path}: {parent} cannot be written to")
        if not path.is_dir() or all(TEMPORARY_MARK in file.name for file in path.iterdir()):
            return cls(path)
        if not resume:
            raise UserError(f"run_dir={path}: not empty; give another one, or resume=true to go on with it")
        if not (path / "config.yaml").is_file():
            raise UserError(f"run_dir={path}: holds no run to resume (no config.yaml)")
        return cls(path, resumed=True)

    def start(self, config: Any, device: str) -> None:
        """Make the folder and write config.yaml and environment.json.

        config   the checked configuration (a dataclass of `sevila.schema`)
        device   what the run computes on, as in `cpu` or `cuda:0`

        A resumed run keeps its config.yaml; UserError where a key differs that could change its numbers.
        """
        if self.resumed:
            _refuse_changes(self.path / "config.yaml", asdict(config))
        else:
            write_text(self.path / "config.yaml", to_yaml(config))
        write_json(self.path / "environment.json", environment(device, config.precision))

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
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8", newline="\n") as file:
            file.write(json_line(row))

    def rewind(self, step: int, evaluated: int) -> None:
        """Drop the lines of metrics.jsonl past `step`, validations past the step `evaluated`, and a half line."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        whole, _, _ = path.read_bytes().rpartition(b"\n")  # a killed run left half a line behind the last end
        rows = parse_jsonl(whole.decode("utf-8"), path)
        write_jsonl(path, [row for row in rows if row["step"] <= (evaluated if _of_validation(row) else step)])

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """metrics.json: equal metrics give equal bytes. No times and no paths belong there."""
        write_json(self.path / "metrics.json", metrics)

    def write_dropped(self, rows: Sequence[Any]) -> None:
        """dropped.jsonl: what the data set left out because that was asked for, if anything; said on stderr too."""
        if rows:
            path = self.path / "dropped.jsonl"
            write_jsonl(path, (row.to_json() for row in rows))
            print(f"sevila: {len(rows)} records were left out, listed in {path}", file=sys.stderr)

    def write_predictions(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """predictions.jsonl: one line a question."""
        write_jsonl(self.path / "predictions.jsonl", rows)


def _of_validation(row: Mapping[str, Any]) -> bool:
    return any(key.startswith("val/") for key in row)


def environment(device: str, precision: str) -> dict[str, Any]:
    """Where a run runs: versions (null for what is not installed), machine, device, precision, commit, time."""
    packages = ("torch", "transformers", "accelerate", "numpy", "av")
    return {
        "sevila": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": device,
        "precision": precision,
        "commit": _commit(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that holds this file, `+changes` where files differ; None outside of one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():  # an installed copy may lie inside someone else's repository
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True)
    except FileNotFoundError:  # no git on this machine
        return None
    if head.returncode or status.returncode:
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def _unused(path: Path) -> Path:
    """`path`, or `path-2`, `path-3`, ...: two runs may start in one second."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _refuse_changes(file: Path, new: Mapping[str, Any]) -> None:
    old, new = dict(_flat(yaml.safe_load(read_text(file)))), dict(_flat(new))
    for key in sorted(old.keys() | new.keys()):
        free = any(key == name or key.startswith(f"{name}.") for name in FREE_ON_RESUME)
        if not free and old.get(key) != new.get(key):
            raise UserError(
                f"run_dir={file.parent}: started with {key}={old.get(key)}, now {key}={new.get(key)}; "
                "resume with the same, or start in another folder"
            )


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
