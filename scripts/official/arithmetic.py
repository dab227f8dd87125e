"""The official code's order of operations in attention.

Fused attention adds in another order, which in float32 moves a state of size ten by about 1e-5. To tell such
rounding from a difference in the model, the vision tower scales its queries before the product here, as
LAVIS's EVA does; Q-Former and T5 are transformers' own "eager" attention, which has LAVIS's order already.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from sevila.model.backbone import Backbone

SCALED_FIRST = "queries_scaled_first"


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """[N, heads, P, D] each -> [N, P, heads, D] and the weights. The vision tower masks nothing."""
    weights = torch.softmax((query * scaling) @ key.transpose(-2, -1), dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def as_published(backbone: Backbone) -> Backbone:
    """Let a backbone that was built with eager attention scale its vision tower's queries first."""
    AttentionInterface.register(SCALED_FIRST, _attention)
    backbone.vision.set_attn_implementation(SCALED_FIRST)
    return backbone
