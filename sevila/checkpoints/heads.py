"""A head as two files: NAME.safetensors with its weights, NAME.json with its sizes, its backbone and its history.

Any Localizer combines with any Answerer on the same backbone. Nothing is loaded partly: a missing, unexpected or
misshaped tensor is an error that lists it, and so is a head that was trained over another backbone. The json holds the
sha256 of the weights it describes, so two files of different heads are no head either.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sevila.checkpoints.hub import HUB_ID, download
from sevila.errors import UserError
from sevila.files import atomic_path, read_json, write_json
from sevila.model.backbone import Backbone
from sevila.model.head import Head
from sevila.model.precision import finite

ROLES = ("localizer", "answerer")
ZEROSHOT = "zeroshot"


class Trained(Protocol):
    """What can be saved: a head, or a trained selector."""

    @property
    def config(self) -> Any: ...

    def state_dict(self) -> Mapping[str, Any]: ...


class Named(Protocol):
    """What a head says of its backbone: where it comes from, and twelve hex digits of its weights."""

    @property
    def source(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


def save_head(path: Path, head: Trained, backbone: Named, role: str, training: Mapping[str, Any] | None = None) -> None:
    """Write `path` (.safetensors) and the .json beside it. `training` says where the weights come from.

    The weights come last: where this is cut short, there is no head, or an older one that its json does not describe
    any more.
    """
    with atomic_path(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}, temporary)
        description = {
            "role": role,
            "head": head.config.to_dict(),
            "backbone": {"source": backbone.source, "fingerprint": backbone.fingerprint},
            "training": dict(training or {}),
            "sha256": sha256(temporary),
        }
        write_json(path.with_suffix(".json"), description)
        shutil.copymode(path.with_suffix(".json"), temporary)  # safetensors would let nobody but its writer read


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_head(place: str, role: str) -> Path:
    """The file of a head that `localizer=` or `answerer=` names.

    place   a head file, a folder that holds ROLE.safetensors (a run's, or one that `sevila.convert` wrote), or where
            there is no such path a Hub repository, OWNER/NAME or OWNER/NAME@REVISION, which is downloaded

    Raises UserError where there is none, or where it holds the other head only.
    """
    path = Path(place)
    if path.is_file():
        return path
    if not path.is_dir():
        if not HUB_ID.fullmatch(place):
            raise UserError(f"{role}={place}: no such run folder or head file; or say {role}={ZEROSHOT}")
        path = download(place, role)
    file = path / f"{role}.safetensors"
    if file.is_file():
        return file
    other = next(name for name in ROLES if name != role)
    if (path / f"{other}.safetensors").is_file():
        raise UserError(f"{role}={place}: that run trained the {other}, not the {role}")
    raise UserError(f"{role}={place}: holds no {role}.safetensors; a run writes it when it has finished")


def load_head(place: str, role: str, backbone: Backbone) -> Head:
    """The head that a place as in `find_head`, or `zeroshot`, names, on the backbone's device.

    In float32, in float64 over such a backbone.

    Raises UserError for a file that is not a head, that belongs to another backbone or does not fit.
    """
    head = copy.deepcopy(backbone.zeroshot)
    if place == ZEROSHOT:
        return head.to(backbone.device)
    path = find_head(place, role)
    if not path.with_suffix(".json").is_file():
        raise UserError(f"{role}={place}: no head file (its description {path.with_suffix('.json')} is not there)")
    description = read_description(path.with_suffix(".json"))
    made_for = description["backbone"]
    if description.get("role") != role:
        raise UserError(f"{role}={place}: is a head of the {description.get('role')}, not of the {role}")
    check_backbone(f"{role}={place}", made_for, backbone)
    fill(head, path)
    check_pair(path, description)
    return head.to(backbone.device)


def check_backbone(said: str, made_for: Mapping[str, Any], backbone: Backbone) -> None:
    """UserError, which begins with `said`, where weights were made for another backbone than this one.

    made_for   the entry "backbone" of their description; a fingerprint of version 0.1 counts as well
    """
    fingerprint = made_for.get("fingerprint")
    if fingerprint not in (backbone.fingerprint, backbone.first_fingerprint):
        raise UserError(
            f"{said}: made for the backbone {made_for.get('source')} ({fingerprint}), "
            f"not for {backbone.source} ({backbone.fingerprint}); choose that model"
        )


def read_description(path: Path) -> dict[str, Any]:
    """The json of a head. UserError where it is none."""
    description = read_json(path)
    if not isinstance(description, dict) or not isinstance(description.get("backbone"), dict):
        raise UserError(f"{path}: does not describe a head (no entry backbone)")
    return description


def check_pair(path: Path, description: Mapping[str, Any]) -> None:
    """UserError where a description is that of other weights than those in `path`."""
    expected = description.get("sha256")  # the first heads were written without it
    if expected is not None and expected != sha256(path):
        raise UserError(
            f"{path}: holds other weights than {path.with_suffix('.json').name} describes; "
            "take both files from the same head"
        )


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
    problems += [
        f"NaN or infinite values in {name}" for name in wanted if name in tensors and not finite(tensors[name])
    ]
    if problems:
        raise UserError(f"{path}: does not fit the head: {'; '.join(problems)}")
    head.load_state_dict(tensors)
