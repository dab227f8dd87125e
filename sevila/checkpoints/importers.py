"""Checkpoint files of other projects: read without running any code in them, and joined to one state dict.

state = read_checkpoint(Path("sevila_pretrained.pth"))                          # the released heads
heads = heads_from(state, "sevila_pretrained.pth", backbone.zeroshot.config)    # by role

parts = [Path("eva_vit_g.pth"), Path("blip2_pretrained_flant5xl.pth"), Path("flan-t5-xl.safetensors")]
blip2_from(join(parts, VISION_LAYERS), "LAVIS").save_pretrained("blip2_flan_t5_xl")
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sevila.checkpoints.architecture import reason
from sevila.checkpoints.lavis import backbone_from, blip2_from, heads_from, roles_in
from sevila.errors import UserError
from sevila.files import check_plain

VISION_LAYERS = 39  # BLIP-2 reads EVA-CLIP ViT-g before its last block


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by name, and the names of what else stands in it, beside the model."""

    path: Path
    state: dict[str, Tensor]
    beside: tuple[str, ...]


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a .safetensors or PyTorch file, memory-mapped; of a file with an entry "model", that entry.

    A PyTorch file is read with `weights_only=True`, so it cannot run code. Raises UserError for a file that is
    missing, unreadable or without tensors.
    """
    check_plain(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    nested = isinstance(content, dict) and isinstance(content.get("model"), dict)
    state = content["model"] if nested else content
    if not isinstance(state, dict) or not state:
        raise UserError(f"{path}: holds no state dict (neither itself nor under the key model)")
    odd = [str(name) for name, value in state.items() if not isinstance(name, str) or not isinstance(value, Tensor)]
    if odd:
        raise UserError(f"{path}: not a state dict, these entries are no tensors: {', '.join(odd)}")
    return Checkpoint(path, dict(state), tuple(str(key) for key in content if key != "model") if nested else ())


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, as `open_checkpoint` finds them.

    Optimizer, scaler, configuration and epoch, which the official runner stores beside the model, are left out.
    """
    return open_checkpoint(path).state


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None


def _read_torch(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # the format before PyTorch 1.6
    except Exception as error:  # torch.load meets text, or a damaged file, with errors of any kind
        why = reason(error) if "WeightsUnpickler error: " not in str(error) else str(error).partition("error: ")[2]
        raise UserError(
            f"{path}: not a PyTorch checkpoint that is readable with weights_only=True "
            f"({_as_text(path) or why.strip().splitlines()[0]})"
        ) from None


def _as_text(path: Path) -> str:
    """What a text says that was saved under a checkpoint's name, as a failed download is; nothing for another file."""
    with path.open("rb") as file:
        start = file.read(80)
    return f"it is a text: {start[:40].decode()!r}" if start and start.isascii() and b"\0" not in start else ""


def join(paths: Iterable[Path], vision_layers: int | None = None) -> dict[str, Tensor]:
    """Several files as one LAVIS state dict: EVA's ViT and a plain T5 get their LAVIS prefixes.

    vision_layers   blocks of the vision tower that are used; later ones are left out (None: all are used)

    Raises UserError where two files hold a tensor of the same name.
    """
    joined = merge(open_checkpoint(path) for path in paths)
    return joined if vision_layers is None else {n: t for n, t in joined.items() if vision_block(n) < vision_layers}


def merge(checkpoints: Iterable[Checkpoint]) -> dict[str, Tensor]:
    """The same of files that are open, with every block."""
    joined: dict[str, Tensor] = {}
    for checkpoint in checkpoints:
        state = {_placed(name): tensor for name, tensor in checkpoint.state.items()}
        twice = sorted(joined.keys() & state.keys())
        if twice:
            some = ", ".join(twice[:4]) + (", ..." if len(twice) > 4 else "")
            raise UserError(
                f"{checkpoint.path}: {len(twice)} tensors stand in an earlier file too: {some}; "
                "only files that complete each other go together"
            )
        joined.update(state)
    return joined


def _placed(name: str) -> str:
    """The name inside the whole model, of a tensor in EVA's or T5's own file."""
    if re.match(r"(cls_token|pos_embed|patch_embed|blocks|norm|fc_norm|head)(\.|$)", name):
        return f"visual_encoder.{name}"
    return f"t5_model.{name}" if re.match(r"(shared|encoder|decoder|lm_head)\.", name) else name


def vision_block(name: str) -> int:
    """The number of the vision tower's block that a tensor belongs to, -1 for any other tensor."""
    match = re.match(r"visual_encoder\.blocks\.(\d+)\.", name)
    return int(match[1]) if match else -1


__all__ = [
    "VISION_LAYERS",
    "Checkpoint",
    "backbone_from",
    "blip2_from",
    "heads_from",
    "join",
    "merge",
    "open_checkpoint",
    "read_checkpoint",
    "roles_in",
    "vision_block",
]
