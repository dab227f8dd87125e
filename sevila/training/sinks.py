"""Where logged numbers go beside the run's own metrics.jsonl."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sevila.errors import UserError

Sink = Callable[[dict[str, Any]], None]


def all_of(*sinks: Sink) -> Sink:
    """One sink that hands every record to each of `sinks`."""

    def log(record: dict[str, Any]) -> None:
        for sink in sinks:
            sink(record)

    return log


class WandbSink:
    """Sends records to Weights & Biases. `mode` is "online" or "offline"; a resumed run goes on under its id.

    The id is kept in `folder/wandb_id`. Raises UserError when wandb is not installed or the mode is unknown.
    """

    def __init__(
        self,
        folder: Path,
        project: str,
        mode: str,
        config: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        if mode not in ("online", "offline"):
            raise UserError(f"wandb.mode={mode}: must be online or offline")
        try:
            import wandb
        except ImportError as error:
            raise UserError(f"wandb.mode={mode}: wandb is not installed; pip install wandb") from error
        folder.mkdir(parents=True, exist_ok=True)
        known = folder / "wandb_id"
        if not known.is_file():
            known.write_text(uuid.uuid4().hex[:8] + "\n", encoding="utf-8")
        self._run = wandb.init(
            project=project,
            name=name or folder.name,
            dir=str(folder),
            id=known.read_text(encoding="utf-8").strip(),
            resume="allow",
            mode=mode,
            config=dict(config or {}),
        )

    def __call__(self, record: dict[str, Any]) -> None:
        numbers = {key: value for key, value in record.items() if key != "step"}
        self._run.log(numbers, step=record["step"])

    def close(self) -> None:
        self._run.finish()
