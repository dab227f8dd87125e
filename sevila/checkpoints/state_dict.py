"""State dicts: fetched from the Hub, read from files without running code in them, compared strictly before use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import is_offline_mode
from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sevila.errors import UserError, reason
from sevila.files import check_plain
from sevila.model.precision import finite

Shapes = Mapping[str, Sequence[int]]

LISTED = 50  # tensors of a kind that a message names; more are counted


def check_tensors(
    place: str,
    verdict: str,
    wanted: Shapes,
    found: Mapping[str, Tensor],
    spare: re.Pattern[str] | None = None,
    remedy: str = "",
) -> None:
    """Compare tensors with what a module needs: its names, its shapes, and finite floating-point values.

    place     file or key that the message begins with
    verdict   what is wrong as a whole, as in "does not fit the head"
    wanted    every tensor's name and shape
    found     the tensors by name, of any shape; of one on the meta device the values are not looked at
    spare     whole names of what may be there and is not needed
    remedy    what the message ends with

    Raises UserError, in one line, with every tensor that is missing, unexpected, of another shape or not finite.
    """
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted and not (spare and spare.fullmatch(name))]
    there = [name for name in wanted if name in found]
    shapes = {name: (list(found[name].shape), list(wanted[name])) for name in there}
    kinds = {
        "missing ": missing,
        "unexpected ": unexpected,
        "": [f"{name} is {is_}, not {should}" for name, (is_, should) in shapes.items() if is_ != should],
        "no finite numbers (NaN, infinity, integers) in ": [name for name in there if not finite(found[name])],
    }
    problems = [kind + listed(names, LISTED) for kind, names in kinds.items() if names]
    if problems:
        raise UserError(f"{place}: {verdict}: {'; '.join(problems)}{f'; {remedy}' if remedy else ''}")


def listed(names: Sequence[str], most: int) -> str:
    """Names in a line: all of them, or the first `most` and how many there are."""
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])}, ... ({len(names)} tensors)"


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by name, and the names of what else stands in it, beside the model."""

    path: Path
    state: dict[str, Tensor]
    beside: tuple[str, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a .safetensors or PyTorch file, memory-mapped; of a file with an entry "model", that entry.

    The official runner stores optimizer, scaler, configuration and epoch beside the model. A PyTorch file is read with
    `weights_only=True`, so it cannot run code.

    Raises UserError for a file that is missing, unreadable or without tensors.
    """
    check_plain(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    content = read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    nested = isinstance(content, dict) and isinstance(content.get("model"), dict)
    state = content["model"] if nested else content
    if not isinstance(state, dict) or not state:
        raise UserError(f"{path}: holds no state dict (neither itself nor under the key model)")
    odd = [str(name) for name, value in state.items() if not isinstance(name, str) or not isinstance(value, Tensor)]
    if odd:
        raise UserError(f"{path}: not a state dict, these entries are no tensors: {', '.join(odd)}")
    return Checkpoint(path, dict(state), tuple(str(key) for key in content if key != "model") if nested else ())


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, memory-mapped. Raises UserError where it is none."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({reason(error)})") from None


def _read_torch(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # the format before PyTorch 1.6
    except Exception as error:  # torch.load meets text, or a damaged file, with errors of any kind
        why = str(error).partition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        raise UserError(
            f"{path}: not a PyTorch checkpoint that is readable with weights_only=True "
            f"({_as_text(path) or why or reason(error)})"
        ) from None


def _as_text(path: Path) -> str:
    """What a text says that was saved under a checkpoint's name, as a failed download is; nothing for another file."""
    with path.open("rb") as file:
        start = file.read(80)
    return f"it is a text: {start[:40].decode()!r}" if start and start.isascii() and b"\0" not in start else ""


# -- the Hugging Face Hub, into the cache that all of its libraries share ---


HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+?)(@(?P<revision>[\w./-]+))?")  # OWNER/NAME[@REVISION]
HUB_FAULTS = (OSError, ValueError, EntryNotFoundError, HTTPError)  # offline, no such repository, no right to it, ...


def fetch(place: str, patterns: Sequence[str]) -> Path:
    """The local folder that holds, all of one commit, the repository's files of these patterns.

    Raises one of HUB_FAULTS: without a connection (or with HF_HUB_OFFLINE=1) only what was fetched before is there.
    """
    match = HUB_ID.fullmatch(place)
    if match is None:
        raise ValueError("a repository of the Hub is named OWNER/NAME or OWNER/NAME@REVISION")
    try:
        return Path(
            huggingface_hub.snapshot_download(match["repo"], revision=match["revision"], allow_patterns=list(patterns))
        )
    except LocalEntryNotFoundError:
        why = " because HF_HUB_OFFLINE is set" if is_offline_mode() else ""
        raise LocalEntryNotFoundError(f"not in the cache, and the Hub cannot be reached{why}") from None
