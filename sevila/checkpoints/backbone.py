"""From a Hub id, a folder in transformers' BLIP-2 format, or `tiny` to the frozen backbone.

Weights are `Pretrained`: those that the source holds. Or `Random`: the source's sizes filled with seeded noise, for
measuring memory and time without any file of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import Blip2Config, Blip2ForConditionalGeneration

from sevila.checkpoints.architecture import (
    TINY,
    outline,
    published,
    read_architecture,
    read_tokenizer,
    share_word_vectors,
)
from sevila.checkpoints.blip2_folder import Blip2Folder
from sevila.errors import UserError
from sevila.model.backbone import TEXT_TOKENS, Backbone, assemble_backbone, checkpoint_blocks, halve
from sevila.model.language import TOKENS
from sevila.model.precision import wide

if TYPE_CHECKING:
    from sevila.checkpoints.timm import Vision

NOISE = 0.02  # standard deviation of random matrices: activations stay finite at any depth


@dataclass(frozen=True)
class Pretrained:
    """The weights that the source holds; `source` is what `model.source` says."""

    def architecture(self, source: str) -> Blip2Config:
        """All sizes. Raises UserError where the source is no BLIP-2 with a T5."""
        return read_architecture(source)

    def blip2(
        self,
        source: str,
        config: Blip2Config,
        dtype: torch.dtype,
        device: torch.device,
        rest: torch.dtype | None = None,
    ) -> Blip2ForConditionalGeneration:
        """The whole model, its parameters in `dtype` from the start, all but T5's in `rest` where that is given.

        Raises UserError for weights that do not fit.
        """
        return Blip2Folder.open(source, "model.source=").load(config, dtype, device, rest)

    def fill(self, module: nn.Module, what: str, remedy: str) -> None:
        """Give weights to a part that came without any. Raises UserError: there are none; `remedy` says what helps."""
        raise UserError(f"{what} has no weights: {remedy}, or model.weights=random to measure without any")

    def name(self, source: str) -> str:
        """How messages and head files call the backbone."""
        return source


@dataclass(frozen=True)
class Random:
    """Noise that is a function of the seed, the sizes, the dtype and the kind of device."""

    seed: int = 0

    def architecture(self, source: str) -> Blip2Config:
        return published(source) or read_architecture(source)

    def blip2(
        self,
        source: str,
        config: Blip2Config,
        dtype: torch.dtype,
        device: torch.device,
        rest: torch.dtype | None = None,
    ) -> Blip2ForConditionalGeneration:
        blip2: Any = outline(config)  # a checker cannot see through transformers' `to`
        blip2.to(rest or dtype)
        blip2.language_model.to(dtype)
        blip2.to_empty(device=device)
        share_word_vectors(blip2)
        self.fill(blip2, source, "")
        return blip2

    @torch.no_grad()
    def fill(self, module: nn.Module, what: str, remedy: str) -> None:
        """Matrices become noise, scales 1, biases and buffers 0, each in its place."""
        generator: torch.Generator | None = None
        for name, parameter in module.named_parameters():
            generator = generator or torch.Generator(parameter.device).manual_seed(self.seed)
            if parameter.ndim >= 2:
                parameter.normal_(0.0, NOISE, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        for buffer in module.buffers():
            buffer.zero_()

    def name(self, source: str) -> str:
        return f"{source} with random weights"


Weights = Pretrained | Random
WEIGHTS: dict[str, type[Weights]] = {"pretrained": Pretrained, "random": Random}


def load(
    source: str = TINY,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
    text_tokens: int = TEXT_TOKENS,
    tokens: int = TOKENS,
    *,
    weights: Weights | None = None,
    tokenizer: str | None = None,
    vision: Vision | None = None,
    checkpointing: bool = False,
    half_tower: bool = False,
) -> Backbone:
    """Load a BLIP-2 by Hub id, local folder or `tiny`.

    tokens          memory budget: rows x tokens a row in one pass through the tower or the language model
    weights         `Pretrained()` by default, or `Random()`: the source's sizes with noise, and no file is needed
    tokenizer       folder or Hub id of another tokenizer than the source's
    vision          `TimmVision(...)` in the place of the source's own tower
    checkpointing   training steps keep less, and compute twice
    half_tower      the tower in float16 as LAVIS holds it, and BLIP-2's own head in float32 as it is in the file:
                    `dtype` is T5's alone

    The zero-shot head lies on the CPU: what computes are copies of it (`load_head`), and a spare one is 0.4 GB.

    Raises UserError where there is no such folder or Hub id, where it is not a BLIP-2 with a T5, and where a tensor is
    missing, unexpected, of another shape or not finite.
    """
    weights = weights or Pretrained()
    device = torch.device(device)
    # the small files first: whatever they tell wrong is told before the weights are fetched
    config: Any = weights.architecture(source)  # transformers leaves open what its parts are
    text = read_tokenizer(tokenizer, source, config.text_config.vocab_size)
    rest = wide(dtype) if half_tower else dtype
    tower = None if vision is None else vision.tower(config.vision_config.hidden_size, weights.fill, rest, device)
    if tower is not None:
        config.vision_config.num_hidden_layers = 0  # the model's own tower would only take memory
    blip2 = weights.blip2(source, config, dtype, device, rest)
    blip2.set_attn_implementation(attention)
    backbone = assemble_backbone(blip2, text, weights.name(source), attention, text_tokens, tower, tokens).to(device)
    backbone.zeroshot.cpu()
    _hold(backbone, half_tower, checkpointing)
    return backbone


def _hold(backbone: Backbone, half_tower: bool, checkpointing: bool) -> None:
    """What `load` was told of its memory."""
    if half_tower:
        _ = backbone.fingerprint, backbone.first_fingerprint  # of the weights as they are in the file
        halve(backbone.tower)
    if checkpointing:
        checkpoint_blocks(backbone.language)
        checkpoint_blocks(backbone.zeroshot)  # and so every head, which begins as its copy
