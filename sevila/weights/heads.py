"""A head as a file: NAME.safetensors with its weights, NAME.json with its sizes, its backbone and its history.

Any Localizer combines with any Answerer on the same backbone. Nothing is loaded partly: a missing, unexpected or
misshaped tensor is an error that lists it, and so is a head that was trained over another backbone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sevila.errors import UserError
from sevila.files import atomic_path, read_json, write_json
from sevila.model.backbone import Backbone
from sevila.model.head import Head

ROLES = ("localizer", "answerer")
ZEROSHOT = "zeroshot"


def save_head(path: Path, head: Head, backbone: Backbone, role: str, training: Mapping[str, Any] | None = None) -> None:
    """Write `path` (.safetensors) and the .json beside it. `training` says where the weights come from."""
    description = {
        "role": role,
        "head": head.config.to_dict(),
        "backbone": {"source": backbone.source, "fingerprint": backbone.fingerprint},
        "training": dict(training or {}),
    }
    write_json(path.with_suffix(".json"), description)
    with atomic_path(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}, temporary)


def find_head(place: str, role: str) -> Path:
    """The file of a head that `localizer=` or `answerer=` names: a head file, or a run folder that holds one.

    Raises UserError where there is none, or where the run trained the other head.
    """
    path = Path(place)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{role}={place}: no such run folder or head file; or say {role}={ZEROSHOT}")
    file = path / f"{role}.safetensors"
    if file.is_file():
        return file
    other = next(name for name in ROLES if name != role)
    if (path / f"{other}.safetensors").is_file():
        raise UserError(f"{role}={place}: that run trained the {other}, not the {role}")
    raise UserError(f"{role}={place}: holds no {role}.safetensors; a run writes it when it has finished")


def load_head(place: str, role: str, backbone: Backbone) -> Head:
    """The head that a run folder, a head file or `zeroshot` names, float32, on the backbone's device.

    Raises UserError for a file that is not a head, that belongs to another backbone or does not fit.
    """
    head = copy.deepcopy(backbone.zeroshot)
    if place == ZEROSHOT:
        return head.to(backbone.device)
    path = find_head(place, role)
    if not path.with_suffix(".json").is_file():
        raise UserError(f"{role}={place}: no head file (its description {path.with_suffix('.json')} is not there)")
    description = read_json(path.with_suffix(".json"))
    if not isinstance(description, dict) or not isinstance(description.get("backbone"), dict):
        raise UserError(f"{path.with_suffix('.json')}: does not describe a head (no entry backbone)")
    made_for = description["backbone"]
    if description.get("role") != role:
        raise UserError(f"{role}={place}: is a head of the {description.get('role')}, not of the {role}")
    if made_for.get("fingerprint") != backbone.fingerprint:
        raise UserError(
            f"{role}={place}: made for the backbone {made_for.get('source')} ({made_for.get('fingerprint')}), "
            f"not for {backbone.source} ({backbone.fingerprint}); choose that model"
        )
    fill(head, path)
    return head.to(backbone.device)


def fill(head: Head, path: Path) -> None:
    """Put the tensors of a safetensors file into a head: exactly its names and shapes, or UserError lists them."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    wanted = head.state_dict()
    problems = [f"missing {name}" for name in wanted if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {list(tensors[name].shape)}, not {list(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if problems:
        raise UserError(f"{path}: does not fit the head: {'; '.join(problems)}")
    head.load_state_dict(tensors)
