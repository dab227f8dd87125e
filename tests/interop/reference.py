"""A case's folder: weights, inputs, what LAVIS and timm made of them; and this library's model of the weights."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from official.golden import read_tokenizer
from sevila.checkpoints.lavis import backbone_from, heads_from
from sevila.errors import UserError
from sevila.files import read_json
from sevila.model.backbone import Backbone
from sevila.model.head import Head


class Reference:
    """`lavis` and `timm` are their tensors by name; `notes` is what the tensors do not tell."""

    def __init__(self, folder: Path) -> None:
        for file in ("weights.safetensors", "lavis.safetensors", "timm.safetensors"):
            if not (folder / file).is_file():
                raise UserError(f"{folder}: holds no {file}; make test-interop writes it")
        self.folder, self.notes = folder, read_json(folder / "case.json")
        self.weights = load_file(folder / "weights.safetensors")
        self.lavis, self.timm = load_file(folder / "lavis.safetensors"), load_file(folder / "timm.safetensors")
        self.pixels = self.lavis["pixels"]

    def flow(self, name: str) -> dict[str, Tensor]:
        """LAVIS's tensors of one flow, by the rest of their names."""
        return {key.removeprefix(f"{name}."): t for key, t in self.lavis.items() if key.startswith(f"{name}.")}

    @cached_property
    def backbone(self) -> Backbone:
        return backbone_from(
            self.weights,
            read_tokenizer(self.folder),
            str(self.folder),
            self.notes["qformer_heads"],
            self.notes["vision_heads"],
            dtype=torch.float64,
            text_tokens=self.notes["text_tokens"],
        )

    @cached_property
    def head(self) -> Head:
        """BLIP-2's head as one of the library's trainable ones, dropout off."""
        sizes = self.backbone.zeroshot.config
        return heads_from(self.weights, str(self.folder), sizes, dtype=torch.float64)["answerer"]

    @cached_property
    def patches(self) -> Tensor:
        """[B, T, P, Dv], made once."""
        return self.backbone.encode(self.pixels)
