"""A head as two files: NAME.safetensors with its weights, NAME.json with its sizes, its backbone and its history.

Any Localizer combines with any Answerer on the same backbone. Nothing is loaded partly: a missing, unexpected or
misshaped tensor is an error that lists it, and so is a head that was trained over another backbone. The json holds the
sha256 of the weights it describes, so two files of different heads are no head either.

To give away, heads stand in a folder or a Hub repository as ROLE.safetensors, ROLE.json and a model card:

    save_pretrained("mine", head, backbone, "localizer")            # a Localizer and an Answerer may share a folder
    push_to_hub("me/sevila-nextqa", "mine")                         # or "R1", the folder of a run
    head = from_pretrained("me/sevila-nextqa", "localizer", backbone)
"""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import huggingface_hub
import torch
from safetensors.torch import save_file
from torch import nn

from sevila.checkpoints.blip2_folder import Blip2Folder
from sevila.checkpoints.state_dict import HUB_FAULTS, HUB_ID, check_tensors, fetch, read_safetensors
from sevila.errors import UserError, reason
from sevila.files import atomic_path, file_digest, read_json, write_json, write_text
from sevila.model.backbone import Backbone
from sevila.model.head import Head, HeadConfig

ROLES = ("localizer", "answerer")
ZEROSHOT = "zeroshot"
CARD = "README.md"

Base = Backbone | Blip2Folder  # what a head was made for, loaded or not: a source and a fingerprint


class Trained(Protocol):
    """What can be saved: a head, or a trained selector."""

    @property
    def config(self) -> Any: ...

    def state_dict(self) -> Mapping[str, Any]: ...


# -- one head: write, find, load ---


def save_head(path: Path, head: Trained, backbone: Base, role: str, training: Mapping[str, Any] | None = None) -> None:
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
            "sha256": file_digest(temporary),
        }
        write_json(path.with_suffix(".json"), description)
        shutil.copymode(path.with_suffix(".json"), temporary)  # safetensors would let nobody but its writer read


def find_head(place: str, role: str) -> Path:
    """The file of a head that `localizer=` or `answerer=` names.

    place   a head file, a folder that holds ROLE.safetensors (a run's, or one that `sevila convert` wrote), or where
            there is no such path a Hub repository, OWNER/NAME or OWNER/NAME@REVISION, which is downloaded

    Raises UserError where there is none, or where it holds the other head only.
    """
    path = Path(place)
    if path.is_file():
        return path
    if not path.is_dir():
        if not HUB_ID.fullmatch(place):
            raise UserError(f"{role}={place}: no such run folder or head file; or say {role}={ZEROSHOT}")
        try:
            path = fetch(place, [f"{role}.json", f"{role}.safetensors"])
        except HUB_FAULTS as error:
            raise UserError(
                f"{role}={place}: no such run folder or head file, and not to be had from the Hub ({reason(error)})"
            ) from None
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
    head = copy.deepcopy(backbone.zeroshot)  # both heads begin as BLIP-2's own (paper, section 3.2)
    if place == ZEROSHOT:
        return head.to(backbone.device)
    path = find_head(place, role)
    if not path.with_suffix(".json").is_file():
        raise UserError(f"{role}={place}: no head file (its description {path.with_suffix('.json')} is not there)")
    description = read_description(path.with_suffix(".json"))
    if description.get("role") != role:
        raise UserError(f"{role}={place}: is a head of the {description.get('role')}, not of the {role}")
    check_backbone(f"{role}={place}", description["backbone"], backbone)
    fill(head, path)
    check_pair(path, description)
    return head.to(backbone.device)


def check_backbone(key: str, made_for: Mapping[str, Any], backbone: Backbone) -> None:
    """Raises UserError, which begins with `key`, where weights were made for another backbone than this one.

    made_for   the entry "backbone" of their description; a fingerprint of version 0.1 counts as well
    """
    fingerprint = made_for.get("fingerprint")
    if fingerprint not in (backbone.fingerprint, backbone.first_fingerprint):
        raise UserError(
            f"{key}: made for the backbone {made_for.get('source')} ({fingerprint}), "
            f"not for {backbone.source} ({backbone.fingerprint}); choose that model"
        )


def read_description(path: Path) -> dict[str, Any]:
    """The json of a head. Raises UserError where it is none."""
    description = read_json(path)
    if not isinstance(description, dict) or not isinstance(description.get("backbone"), dict):
        raise UserError(f"{path}: does not describe a head (no entry backbone)")
    return description


def check_pair(path: Path, description: Mapping[str, Any]) -> None:
    """Raises UserError where a description is that of other weights than those in `path`."""
    expected = description.get("sha256")  # the first heads were written without it
    if expected is not None and expected != file_digest(path):
        raise UserError(
            f"{path}: holds other weights than {path.with_suffix('.json').name} describes; "
            "take both files from the same head"
        )


def fill(head: nn.Module, path: Path) -> None:
    """Put the tensors of a .safetensors file into a head. Raises UserError, which lists them, where they do not fit."""
    tensors = read_safetensors(path)
    wanted = {name: tensor.shape for name, tensor in head.state_dict().items()}
    check_tensors(str(path), "does not fit the head", wanted, tensors)
    head.load_state_dict(tensors)


# -- folders of heads, and the Hub ---


def save_pretrained(
    folder: str | Path,
    head: Head,
    backbone: Base,
    role: str,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a head into a folder (it may hold the other role already), and the folder's model card.

    role       localizer or answerer
    training   where the weights come from, for the json and the card

    Raises UserError where the folder's files are of different heads.
    """
    folder = Path(folder)
    save_head(folder / f"{role}.safetensors", head, backbone, role, training)
    write_text(folder / CARD, model_card(heads_in(folder), str(folder)))


def from_pretrained(place: str | Path, role: str, backbone: Backbone, revision: str | None = None) -> Head:
    """The head of a role from a folder or a Hub repository (at a branch, tag or commit), as `load_head` gives it.

    Raises UserError where it is not to be had, was made for another backbone or does not fit.
    """
    if revision is not None and Path(place).exists():
        raise UserError(f"{place}: a local path has no revision {revision}; leave the revision out")
    return load_head(str(place) if revision is None else f"{place}@{revision}", role, backbone)


def push_to_hub(repo_id: str, folder: str | Path, private: bool = False) -> str:
    """Upload the heads in a folder (of `save_pretrained`, of a run or of `sevila convert`); returns the address.

    The repository is made where there is none. A head of the other role that it holds stays, and stays in the card.

    Raises UserError where the folder holds no head, or the Hub refuses.
    """
    if "@" in repo_id or not HUB_ID.fullmatch(repo_id):
        raise UserError(f"{repo_id}: a repository of the Hub is named OWNER/NAME")
    folder = Path(folder)
    heads = heads_in(folder)
    if not heads:
        raise UserError(f"{folder}: holds no head to upload (no localizer.safetensors, no answerer.safetensors)")
    try:
        address = huggingface_hub.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as name:
            staged = Path(name)
            described = {**_described_there(repo_id, [role for role in ROLES if role not in heads], staged), **heads}
            files = [f"{role}{suffix}" for role in heads for suffix in (".safetensors", ".json")]
            for file in files:
                shutil.copyfile(folder / file, staged / file)
            write_text(staged / CARD, model_card(described, repo_id))
            huggingface_hub.upload_folder(repo_id=repo_id, folder_path=staged, allow_patterns=[CARD, *files])
    except HUB_FAULTS as error:
        raise UserError(f"{repo_id}: not uploaded ({reason(error)})") from None
    return str(address)


def _described_there(repo_id: str, roles: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    """The descriptions of those heads that a repository holds already."""
    if not roles:
        return {}
    names = {role: f"{role}.json" for role in roles}
    huggingface_hub.snapshot_download(repo_id, allow_patterns=list(names.values()), local_dir=folder)
    return {role: read_description(folder / name) for role, name in names.items() if (folder / name).is_file()}


def heads_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The descriptions of the heads in a folder, by role. Raises UserError for two files of different heads."""
    found = {}
    for role in ROLES:
        weights, described = folder / f"{role}.safetensors", folder / f"{role}.json"
        if weights.is_file() and described.is_file():
            found[role] = read_description(described)
            check_pair(weights, found[role])
    return found


def model_card(heads: Mapping[str, Mapping[str, Any]], place: str) -> str:
    """README.md for heads at a place, from their descriptions by role: what they are and how they were made."""
    sources = sorted({str(head["backbone"].get("source")) for head in heads.values()})
    known = [f"base_model: {sources[0]}"] if len(sources) == 1 and HUB_ID.fullmatch(sources[0]) else []
    lines = ["---", "library_name: sevila", "pipeline_tag: video-text-to-text", "tags: [sevila, video-qa]", *known]
    lines += ["---", "", f"# SeViLA heads: {' and '.join(heads)}", ""]
    lines += ["Small trained parts of a SeViLA model. They work only over the frozen BLIP-2 they were made for, which"]
    lines += ["is not in here; another one is refused by its fingerprint.", ""]
    lines += ["| head | parameters | backbone | its fingerprint |", "| --- | --- | --- | --- |"]
    for role, head in heads.items():
        source, fingerprint = (head["backbone"].get(key) for key in ("source", "fingerprint"))
        lines += [f"| {role} | {parameters(head):,} | `{source}` | `{fingerprint}` |"]
    lines += ["", "## How they were made", "", "As the program that wrote them recorded it:", ""]
    for role, head in heads.items():
        lines += [f"{role}:", "", "```json", json.dumps(head.get("training"), indent=2, sort_keys=True), "```", ""]
    options = predict_options(sources[0], dict.fromkeys(heads, place))
    lines += ["## Use", "", "```", f'sevila predict VIDEO "question" option option \\\n    {options}', "```", ""]
    lines += ["This card is written from the heads' own descriptions. It reports no measurement."]
    return "\n".join(lines) + "\n"


def predict_options(source: str, heads: Mapping[str, str]) -> str:
    """The options of `sevila predict` for a backbone and heads at places by role, as a shell reads them."""
    named = {"model": source, **heads}
    return " ".join(f"--{option} {shlex.quote(place)}" for option, place in named.items())


def parameters(description: Mapping[str, Any]) -> int:
    """How many a head of the described sizes has."""
    with torch.device("meta"):
        head = Head(HeadConfig(**description["head"]))
    return sum(parameter.numel() for parameter in head.parameters())
