"""Where logged numbers go beside the run's own metrics.jsonl."""

from __future__ import annotations

import importlib
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sevila.errors import UserError
from sevila.files import read_text, write_text

T = TypeVar("T")
Sink = Callable[[dict[str, Any]], None]


def all_of(*sinks: Sink) -> Sink:
    """One sink that hands every record to each of `sinks`."""

    def log(record: dict[str, Any]) -> None:
        for sink in sinks:
            sink(record)

    return log


def check_wandb(mode: str, project: str) -> None:
    """UserError, before a run folder is made, for what wandb would refuse: its absence, a name, a missing key."""
    if mode == "disabled":
        return
    wandb = _imported(mode)
    wrong = sorted(set(project) & set("/\\#?%:"))
    if wrong or not 1 <= len(project) <= 128:
        raise UserError(f"wandb.project={project}: 1 to 128 characters, none of them / \\ # ? % :")
    if mode == "online" and not _asked(mode, lambda: wandb.api.api_key):
        raise UserError("wandb.mode=online: nobody is logged in; run `wandb login`, or give wandb.mode=offline")


def _imported(mode: str) -> Any:
    if mode not in ("online", "offline"):
        raise UserError(f"wandb.mode={mode}: must be online or offline")
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise UserError(f"wandb.mode={mode}: wandb is not installed; pip install wandb") from error


def _asked(mode: str, ask: Callable[[], T]) -> T:
    """What wandb answers; a UserError of one line where it raises something of its own."""
    try:
        return ask()
    except OSError:  # the machine's, not wandb's
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"wandb.mode={mode}: {reason}; wandb.mode=disabled goes without it") from error


class WandbSink:
    """Sends records to Weights & Biases. `mode` is "online" or "offline"; a resumed run goes on under its id.

    The id is kept in `folder/wandb_id`. Raises UserError when wandb is not installed or refuses, and for an unknown
    mode.
    """

    def __init__(
        self,
        folder: Path,
        project: str,
        mode: str,
        config: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        wandb = _imported(mode)
        known = folder / "wandb_id"
        if not known.is_file():
            write_text(known, uuid.uuid4().hex[:8] + "\n")
        id = read_text(known).strip()
        if not re.fullmatch("[0-9a-f]{8}", id):
            raise UserError(f"{known}: is empty or damaged; remove it, and the run goes on as another one of wandb's")
        self._mode = mode
        self._run = _asked(
            mode,
            lambda: wandb.init(
                project=project,
                name=name or folder.name,
                dir=str(folder),
                id=id,
                resume="allow",
                mode=mode,
                config=dict(config or {}),
            ),
        )

    def __call__(self, record: dict[str, Any]) -> None:
        numbers = {key: value for key, value in record.items() if key != "step"}
        _asked(self._mode, lambda: self._run.log(numbers, step=record["step"]))

    def close(self) -> None:
        self._run.finish()
