"""Checkpoints: the whole state of a run, written so that a kill at any moment leaves a complete one behind.

    checkpoints/
        last, best          text files, each with the name of a folder beside it
        step_120/           complete, or not there at all
            head.safetensors    the head's weights (nothing else is trained)
            training.pt         optimiser, random generators; tensors and plain types only
            state.json          TrainState, the plan of the run it belongs to, checksums of the others and its own

Checksums are verified on reading: a file that was damaged or edited is refused by its name. A folder is written under
a temporary name and renamed; then `last` is replaced, which is the one moment at which a checkpoint starts to count;
older folders go after that. Everything is read with safetensors, json and torch.load(weights_only=True): a checkpoint
cannot run code.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from sevila.checkpoints.state_dict import check_tensors
from sevila.errors import UserError
from sevila.files import atomic_path, file_digest, remove, sealed, sweep, temporary_beside, unsealed, write_text

HEAD, TRAINING, STATE = "head.safetensors", "training.pt", "state.json"
FORM = 2  # of a checkpoint's files; the first had no checksums


@dataclass
class TrainState:
    """Where a run stands, always between two optimiser steps.

    step         optimiser steps done
    epoch        epoch of the next micro-batch
    batch        micro-batches of that epoch that are done
    evaluated    step of the latest evaluation (0: none yet)
    best_metric  the best value of the chosen metric, None before the first evaluation
    best_step    the step that reached it first
    best_metrics all metrics of that evaluation
    averages     name -> [sum, count] of what is to be logged next
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    evaluated: int = 0
    best_metric: float | None = None
    best_step: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    averages: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Snapshot:
    """All that a checkpoint holds beside the head: `rngs` has one entry a process.

    gradients   of the micro-batches that no step has taken yet (`trainer.carry_over`); mostly there are none
    """

    state: TrainState
    plan: dict[str, Any]
    optimizer: dict[str, Any]
    rngs: list[dict[str, Any]]
    gradients: dict[str, Tensor] = field(default_factory=dict)


def step_folder(folder: Path, step: int) -> Path:
    return folder / f"step_{step}"


def find(folder: Path, which: str) -> Path | None:
    """Folder of the `last` or `best` checkpoint under `folder`, or None where there is none yet."""
    pointer = folder / which
    if not pointer.exists():
        return None
    name = _read(pointer, lambda p: p.read_text(encoding="utf-8"))
    if not re.fullmatch(r"step_\d+\n", name):
        raise UserError(
            f"{pointer}: is empty or damaged; write the name of the newest step_N folder beside it into it, "
            "or start a new run"
        )
    target = folder / name.strip()
    if not target.is_dir():
        raise UserError(f"{pointer}: names {target.name}, which is not there; restore it or start a new run")
    return target


def last_step(folder: Path) -> int:
    """The step that a resumed run starts from; 0 where there is no checkpoint."""
    last = find(folder, "last")
    return 0 if last is None else _step_of(last)


def last_evaluated(folder: Path) -> int:
    """The step whose evaluation such a run knows; 0 for none."""
    last = find(folder, "last")
    return 0 if last is None else _description(last / STATE)["state"]["evaluated"]


def save(folder: Path, head: nn.Module, snapshot: Snapshot) -> Path:
    """Write the checkpoint of this step under `folder`, make it `last` (and `best`), then drop older ones.

    A folder of this very step (written before its evaluation) holds the same weights, so only
    its state is replaced.
    """
    state = snapshot.state
    target = step_folder(folder, state.step)
    folder.mkdir(exist_ok=True)  # not its parents: a run folder that was removed meanwhile does not come back
    if target.exists():
        _write_state(target / STATE, snapshot, _description(target / STATE)["files"])
    else:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
        with atomic_path(target) as temporary:
            temporary.mkdir()
            safetensors.torch.save_file(weights, temporary / HEAD)
            with (temporary / TRAINING).open("wb") as file:  # a file object's errors say what the system refused
                torch.save(_training(snapshot), file)
            files = {name: file_digest(temporary / name) for name in (HEAD, TRAINING)}
            _write_state(temporary / STATE, snapshot, files)
    write_text(folder / "last", target.name + "\n")
    tidy(folder, state)
    return target


def _training(snapshot: Snapshot) -> dict[str, Any]:
    carried = {"gradients": snapshot.gradients} if snapshot.gradients else {}
    return {"optimizer": snapshot.optimizer, "rngs": snapshot.rngs, **carried}


def _write_state(path: Path, snapshot: Snapshot, files: Mapping[str, str]) -> None:
    content = {"form": FORM, "state": asdict(snapshot.state), "plan": snapshot.plan, "files": dict(files)}
    write_text(path, json.dumps(sealed(content), indent=1) + "\n")


def mark(path: Path) -> str:
    """The checksum of a checkpoint's state.json, which holds those of its other files."""
    return _read(path / STATE, file_digest)


def load(path: Path, head: nn.Module, plan: Mapping[str, Any], wanted: str | None = None) -> Snapshot:
    """Read the checkpoint in `path`; the head's weights go into `head`.

    wanted   the `mark` that the first of several processes has read

    Raises UserError when it is another one than `wanted`, when a file is missing or damaged, when keys are missing,
    unexpected or of another shape (all of them listed), or when it belongs to a run with another plan.
    """
    if wanted is not None and mark(path) != wanted:
        raise UserError(f"{path}: is another one for process 0; several machines need run_dir on a disk they share")
    description = _description(path / STATE)
    _same_keys(path / STATE, description["plan"], set(plan))
    for key, value in plan.items():
        if description["plan"][key] != value:
            raise UserError(
                f"{path / STATE}: written with {key}={description['plan'][key]}, this run has {key}={value}; "
                "resume with the same value or choose a new run_dir"
            )
    _whole(path / TRAINING, description)
    training = _read(path / TRAINING, lambda p: torch.load(p, map_location="cpu", weights_only=True))
    carried = training.pop("gradients", {}) if isinstance(training, dict) else {}
    _same_keys(path / TRAINING, training, {"optimizer", "rngs"})
    load_head(path, head)
    state = TrainState(**description["state"])
    if state.best_step is not None:
        best = step_folder(path.parent, state.best_step) / HEAD  # needed at the end: better missed now
        _whole(best, _description(best.with_name(STATE)))
    return Snapshot(state, description["plan"], training["optimizer"], training["rngs"], carried)


def load_head(checkpoint: Path, head: nn.Module) -> None:
    """Put the weights of a checkpoint into `head`; every name and shape must fit, and the file be undamaged."""
    path = checkpoint / HEAD
    _whole(path, _description(checkpoint / STATE))
    weights = _read(path, safetensors.torch.load_file)
    wanted = {name: tensor.shape for name, tensor in head.state_dict().items()}
    remedy = "restore the file or use the model it was made with"
    check_tensors(str(path), "does not fit the head", wanted, weights, remedy=remedy)
    head.load_state_dict(weights)


def tidy(folder: Path, state: TrainState) -> None:
    """Bring `best` in line with the `last` checkpoint's `state`, then remove the folders that nothing names.

    Done after every save, and before a run goes on after a kill, which may have come between any two writes.
    """
    keep = {step_folder(folder, state.step).name}
    if state.best_step is not None:
        best = step_folder(folder, state.best_step).name
        keep.add(best)
        write_text(folder / "best", best + "\n")
    else:
        (folder / "best").unlink(missing_ok=True)
    for path in folder.glob("step_*"):
        if path.name not in keep:
            # under a temporary name first: what is half-removed must not look complete
            going = temporary_beside(path)
            os.replace(path, going)
            remove(going)
    sweep(folder)


def _description(path: Path) -> dict[str, Any]:
    """What state.json says. UserError where it is no such file, damaged, or without checksums."""
    found = _read(path, lambda p: json.loads(p.read_text(encoding="utf-8")))
    if isinstance(found, Mapping) and set(found) == {"state", "plan"}:
        raise UserError(f"{path}: written by an older version of sevila, without checksums; start a new run")
    try:
        found = unsealed(found)
    except ValueError as error:
        raise UserError(f"{path}: {error}; restore it or start a new run") from None
    _same_keys(path, found, {"form", "state", "plan", "files"})
    if found["form"] != FORM:
        raise UserError(f"{path}: written by another version of sevila; resume with that one or start a new run")
    _same_keys(path, found["state"], {f.name for f in fields(TrainState)})
    return found


def _whole(path: Path, description: Mapping[str, Any]) -> None:
    """UserError where a file is not the one that state.json was written with."""
    if _read(path, file_digest) != description["files"].get(path.name):
        raise UserError(f"{path}: is damaged (its checksum is wrong); restore it or start a new run")


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def _same_keys(path: Path, found: Any, expected: set[str]) -> None:
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: is no checkpoint of this project; restore it or start a new run")
    missing, extra = sorted(expected - set(found)), sorted(set(found) - expected)
    if missing or extra:
        parts = [f"missing keys: {', '.join(missing)}"] * bool(missing)
        parts += [f"unexpected keys: {', '.join(extra)}"] * bool(extra)
        raise UserError(f"{path}: {'; '.join(parts)}; restore the file or use the model it was made with")


def _read(path: Path, reader: Any) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: not there, so this checkpoint is not complete; restore it or start a new run")
    try:
        return reader(path)
    except Exception as error:  # a damaged file can make a parser fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: cannot be read ({reason}); restore it or start a new run") from error
