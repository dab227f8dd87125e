"""Heads to give away: a folder or a Hub repository with ROLE.safetensors, ROLE.json and a model card.

save_pretrained("mine", head, backbone, "localizer")              # a Localizer and an Answerer may share a folder
push_to_hub("me/sevila-nextqa", "mine")                           # or "R1", the folder of a run
head = from_pretrained("me/sevila-nextqa", "localizer", backbone)
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import torch

from sevila.checkpoints.heads import ROLES, Named, check_pair, load_head, read_description, save_head
from sevila.checkpoints.hub import HUB_FAULTS, HUB_ID, brief
from sevila.errors import UserError
from sevila.files import write_text
from sevila.model.backbone import Backbone
from sevila.model.head import Head, HeadConfig

CARD = "README.md"


def save_pretrained(
    folder: str | Path, head: Head, backbone: Named, role: str, training: Mapping[str, Any] | None = None
) -> None:
    """Write a head into a folder (it may hold the other role already), and the folder's model card.

    role       localizer or answerer
    training   where the weights come from, for the json and the card
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
    """Upload the heads in a folder (of `save_pretrained`, of a run or of `sevila.convert`); returns the address.

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
        raise UserError(f"{repo_id}: not uploaded ({brief(error)})") from None
    return str(address)


def _described_there(repo_id: str, roles: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    """The descriptions of those heads that a repository holds already."""
    if not roles:
        return {}
    names = {role: f"{role}.json" for role in roles}
    huggingface_hub.snapshot_download(repo_id, allow_patterns=list(names.values()), local_dir=folder)
    return {role: read_description(folder / name) for role, name in names.items() if (folder / name).is_file()}


def heads_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The descriptions of the heads in a folder, by role. UserError for two files of different heads."""
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
    lines += [
        "Small trained parts of a SeViLA model. They work only over the frozen BLIP-2 they were made for, which is"
    ]
    lines += ["not in here; another one is refused by its fingerprint.", ""]
    lines += ["| head | parameters | backbone | its fingerprint |", "| --- | --- | --- | --- |"]
    for role, head in heads.items():
        source, fingerprint = (head["backbone"].get(key) for key in ("source", "fingerprint"))
        lines += [f"| {role} | {parameters(head):,} | `{source}` | `{fingerprint}` |"]
    lines += ["", "## How they were made", "", "As the program that wrote them recorded it:", ""]
    for role, head in heads.items():
        lines += [f"{role}:", "", "```json", json.dumps(head.get("training"), indent=2, sort_keys=True), "```", ""]
    words = " ".join(f"{role}={place}" for role in heads)
    lines += ["## Use", "", "```", f"python -m sevila.predict model.source={sources[0]} {words} \\"]
    lines += ["    video=FILE.mp4 question=\"...\" options='[red, green]'", "```", ""]
    lines += ["This card is written from the heads' own descriptions. It reports no measurement."]
    return "\n".join(lines) + "\n"


def parameters(description: Mapping[str, Any]) -> int:
    """How many a head of the described sizes has."""
    with torch.device("meta"):
        head = Head(HeadConfig(**description["head"]))
    return sum(parameter.numel() for parameter in head.parameters())
