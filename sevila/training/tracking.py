"""Weights & Biases, through accelerate's tracker: it gets what the run's own metrics.jsonl gets."""

from __future__ import annotations

import importlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator

from sevila.errors import UserError
from sevila.files import read_text, write_text
from sevila.schema import Wandb
from sevila.training.loop import Log

T = TypeVar("T")


def check_wandb(options: Wandb) -> None:
    """UserError, before a run folder is made, for what wandb would refuse: its absence, a name, a missing key."""
    if options.mode == "disabled":
        return
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise UserError(f"wandb.mode={options.mode}: wandb is not installed; pip install wandb") from error
    wrong = sorted(set(options.project) & set("/\\#?%:"))
    if wrong or not 1 <= len(options.project) <= 128:
        raise UserError(f"wandb.project={options.project}: 1 to 128 characters, none of them / \\ # ? % :")
    if options.mode == "online" and not _one_line(options.mode, lambda: wandb.api.api_key):
        raise UserError("wandb.mode=online: nobody is logged in; run `wandb login`, or give wandb.mode=offline")


@contextmanager
def tracking(accelerator: Accelerator, folder: Path, options: Wandb, config: Mapping[str, Any]) -> Iterator[Log]:
    """Yield what takes log records, on the main process; where wandb is disabled, nobody gets them.

    A resumed run goes on under its id, which is kept in `folder/wandb_id`. UserError for what wandb refuses.
    """
    if options.mode != "disabled" and accelerator.is_main_process:
        settings: dict[str, Any] = {"mode": options.mode, "name": options.name or folder.name, "dir": str(folder)}
        settings |= {"id": _id(folder / "wandb_id"), "resume": "allow", "config": dict(config)}
        accelerator.log_with = ["wandb"]
        _one_line(options.mode, lambda: accelerator.init_trackers(options.project, init_kwargs={"wandb": settings}))

    def log(record: dict[str, Any]) -> None:
        numbers = {key: value for key, value in record.items() if key != "step"}
        _one_line(options.mode, lambda: accelerator.log(numbers, step=record["step"]))

    try:
        yield log
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _id(file: Path) -> str:
    if not file.is_file():
        write_text(file, uuid.uuid4().hex[:8] + "\n")
    id = read_text(file).strip()
    if not re.fullmatch("[0-9a-f]{8}", id):
        raise UserError(f"{file}: is empty or damaged; remove it, and the run goes on as another one of wandb's")
    return id


def _one_line(mode: str, ask: Callable[[], T]) -> T:
    """What wandb answers; a UserError of one line where it raises something of its own."""
    try:
        return ask()
    except OSError:  # the machine's, not wandb's
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"wandb.mode={mode}: {reason}; wandb.mode=disabled goes without it") from error
