"""From a Hub id, a folder in transformers' BLIP-2 format, or `tiny` to the frozen backbone."""

from __future__ import annotations

import torch

from sevila.checkpoints.architecture import TINY, Pretrained, Weights, read_tokenizer
from sevila.checkpoints.timm import OwnTower, Vision
from sevila.model.backbone import TEXT_TOKENS, Backbone, assemble_backbone, checkpoint_blocks
from sevila.model.language import TOKENS


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
) -> Backbone:
    """Load a BLIP-2 by Hub id, local folder or `tiny`.

    tokens          memory budget: rows x tokens a row in one pass through the tower or the language model
    weights         `Pretrained()` by default, or `Random()`: the source's sizes with noise, and no file is needed
    tokenizer       folder or Hub id of another tokenizer than the source's
    vision          `OwnTower()` by default, or `TimmVision(...)` in its place
    checkpointing   training steps keep less, and compute twice

    Raises UserError where there is no such folder or Hub id, where it is not a BLIP-2 with a T5, and where a tensor is
    missing, unexpected, of another shape or not finite.
    """
    weights, vision = weights or Pretrained(), vision or OwnTower()
    config = weights.architecture(source)
    words = read_tokenizer(tokenizer, source, config.text_config.vocab_size)
    device = torch.device(device)
    tower = vision.tower(config.vision_config.hidden_size, weights, dtype, device)
    if tower is not None:
        config.vision_config.num_hidden_layers = 0  # the model's own tower would only take memory
    blip2 = weights.blip2(source, config, dtype, device, attention)
    backbone = assemble_backbone(blip2, words, weights.name(source), attention, text_tokens, tower, tokens).to(device)
    if checkpointing:
        checkpoint_blocks(backbone.language)
        checkpoint_blocks(backbone.zeroshot)  # and so every head, which begins as its copy
    return backbone
