"""timm's EVA as the vision tower, from LAVIS's eva_vit_g.pth or a file of timm's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from sevila.checkpoints.lavis import transformers_name
from sevila.checkpoints.state_dict import check_tensors, read_checkpoint
from sevila.errors import UserError, reason
from sevila.model.tower import Tower, resized

CLASSIFIER = ("norm", "fc_norm", "head")  # what follows the last block; BLIP-2 uses none of it
_EVA_NAMES = re.compile(r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|blocks\..+")

Fill = Callable[[nn.Module, str, str], None]  # `Weights.fill` of sevila.checkpoints.backbone


class TimmTower(Tower):
    """timm's `Eva` with absolute positions and one CLS token; its parameters have LAVIS's names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.patch = self.model.patch_embed.proj.kernel_size[0]
        self.image_size = self.patch * int((self.model.pos_embed.shape[1] - 1) ** 0.5)

    @property
    def positions(self) -> Tensor:
        """The learned position embeddings [1, P, Dv], CLS first."""
        return self.model.pos_embed

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, of any shape, under the names that transformers' tower gives them."""
        tensors = self.model.state_dict()
        for name, tensor in tensors.items():
            if name.endswith("attn.q_bias"):  # transformers joins the biases; the keys have none
                bias = [tensor, torch.zeros_like(tensor), tensors[name.replace("q_bias", "v_bias")]]
                yield transformers_name(name.replace("q_bias", "qkv.bias")), torch.cat(bias)
            elif not name.endswith("attn.v_bias"):
                yield transformers_name(name), tensor

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, S, S] -> patches [N, P, Dv], CLS first, without a final norm."""
        grid = self.model.patch_embed.proj(pixels)  # [N, Dv, S/patch, S/patch]
        cls = self.model.cls_token.expand(len(pixels), -1, -1)
        tokens = torch.cat([cls, rearrange(grid, "n d rows columns -> n (rows columns) d")], dim=1)
        tokens = tokens + resized(self.positions, grid.shape[-2:])
        for block in self.model.blocks:
            tokens = block(tokens)
        return tokens


@dataclass(frozen=True)
class OwnTower:
    """The tower that comes with model.source."""

    def tower(self, width: int, fill: Fill, dtype: torch.dtype, device: torch.device) -> None:
        """No other one stands in its place."""


@dataclass(frozen=True)
class TimmVision:
    """timm's EVA, from LAVIS's eva_vit_g.pth or a file of timm's.

    model   its name in timm       depth   blocks that are used: BLIP-2 leaves ViT-g's last one out
    file    .pth or .safetensors; needed unless weights are random
    """

    model: str = "eva_giant_patch14_clip_224"
    depth: int = 39
    file: str | None = None

    def tower(self, width: int, fill: Fill, dtype: torch.dtype, device: torch.device) -> TimmTower:
        """The tower on the device; `fill` gives it weights where no file is named.

        Raises UserError for a timm that is not there, a model of another kind or width, a file that does not fit.
        """
        if self.depth < 1:
            raise UserError(f"vision.depth={self.depth}: must be at least 1")
        model = self._outline().to(dtype)
        found = model.pos_embed.shape[-1]
        if found != width:
            raise UserError(f"vision.model={self.model}: is {found} wide, the heads of model.source read {width}")
        if self.file is None:
            model.to_empty(device=device)
            fill(model, f"vision.model={self.model}", "give vision.file=FILE")
        else:
            self._load(self.file, model, dtype)
        return TimmTower(model.to(device))

    def _outline(self) -> Any:
        """The model on the meta device, without what follows its last block."""
        timm = import_timm()
        try:
            with torch.device("meta"):
                model = timm.create_model(self.model, pretrained=False, num_classes=0, depth=self.depth)
        except (RuntimeError, TypeError, AssertionError) as error:
            why = str(error).strip().splitlines()[0]
            raise UserError(f"vision.model={self.model}: timm cannot build it ({why})") from None
        for name in CLASSIFIER:
            setattr(model, name, nn.Identity())
        names = set(dict(model.named_parameters()))
        known = all(map(_EVA_NAMES.fullmatch, names)) and {"cls_token", "pos_embed"} <= names
        if not known or getattr(model, "rope", None) is not None:
            raise UserError(f"vision.model={self.model}: is no EVA with absolute positions and a CLS token")
        return model

    def _load(self, file: str, model: nn.Module, dtype: torch.dtype) -> None:
        """The file's tensors into the model, but for later blocks than it has and what follows the last one."""
        state = read_checkpoint(Path(file)).state
        wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
        blocks = {match[1] for name in state if (match := re.match(r"blocks\.(\d+)\.", name))}
        later = [number for number in blocks if int(number) >= self.depth]
        spare = re.compile("|".join([rf"({'|'.join(CLASSIFIER)})\..+", *(rf"blocks\.{n}\..+" for n in later)]))
        check_tensors(f"vision.file={file}", "does not fit vision.model", wanted, state, spare)
        model.load_state_dict({name: state[name].to(dtype) for name in wanted}, assign=True)
        for part in model.modules():  # EVA's keys have no bias: zeros, which no file stores
            for name, buffer in part.named_buffers(recurse=False):
                setattr(part, name, torch.zeros_like(buffer, device="cpu"))


def import_timm() -> ModuleType:
    """timm. Raises UserError that says which of it and torchvision is missing, or does not fit."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UserError(f"vision=timm: {error.name} is not installed; pip install sevila[timm]") from None
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"vision=timm: timm cannot be imported ({reason(error)}): "
            f"install the torchvision that was built for torch {torch.__version__}"
        ) from None
    return timm


Vision = OwnTower | TimmVision  # a choice of the config group `vision`
VISION: dict[str, Callable[..., Vision]] = {"blip2": OwnTower, "timm": TimmVision}
