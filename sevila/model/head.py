"""A head: layer norm, Q-Former, learned queries and one linear layer, from frame patches to soft tokens.

The Localizer's and the Answerer's heads are two objects of this one class. Nothing else of the model is trained: 106
million parameters each over BLIP-2 with Flan-T5 XL (paper, section 3.2).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Blip2QFormerConfig
from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerModel

from sevila.model.precision import at_least_float32

NORM_EPS = 1e-5  # LAVIS's `ln_vision`; transformers builds its `post_layernorm` with 1e-6


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of a head. `vision_width` is Dv, `language_width` Dl, `queries` Q."""

    vision_width: int
    language_width: int
    queries: int
    width: int
    layers: int
    attention_heads: int
    inner_width: int
    cross_every: int = 2
    dropout: float = 0.1

    @classmethod
    def of(cls, qformer: Blip2QFormerConfig, queries: int, language_width: int) -> HeadConfig:
        """The sizes of a transformers Q-Former."""
        return cls(
            vision_width=qformer.encoder_hidden_size,
            language_width=language_width,
            queries=queries,
            width=qformer.hidden_size,
            layers=qformer.num_hidden_layers,
            attention_heads=qformer.num_attention_heads,
            inner_width=qformer.intermediate_size,
            cross_every=qformer.cross_attention_frequency,
            dropout=qformer.hidden_dropout_prob,
        )

    def qformer(self) -> Blip2QFormerConfig:
        return Blip2QFormerConfig(
            encoder_hidden_size=self.vision_width,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.attention_heads,
            intermediate_size=self.inner_width,
            cross_attention_frequency=self.cross_every,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            hidden_act="gelu",
            layer_norm_eps=1e-12,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Head(nn.Module):
    """Frame patches -> soft tokens of the language model. Its parameters are float32; float64 over such a backbone.

    To answer faster they may be cast (`head.bfloat16()`); trained and stored they never are.
    """

    def __init__(self, config: HeadConfig, attention: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        qformer = config.qformer()
        qformer._attn_implementation = attention
        self.norm = nn.LayerNorm(config.vision_width, eps=NORM_EPS)
        self.queries = nn.Parameter(torch.zeros(1, config.queries, config.width))
        self.qformer = Blip2QFormerModel(qformer)
        self.projection = nn.Linear(config.width, config.language_width)

    def forward(self, patches: Tensor) -> Tensor:
        """[..., P, Dv] -> [..., Q, Dl], every frame by itself.

        The layer norm is computed in float32 (as LAVIS does), in float64 where the patches are; the rest in the
        parameters' dtype or under autocast.
        """
        frames = patches.flatten(0, -3)
        # LAVIS's ln_vision, in full precision whatever the pass runs in
        with torch.autocast(frames.device.type, enabled=False):
            frames = at_least_float32(frames)
            weight, bias = self.norm.weight.to(frames.dtype), self.norm.bias.to(frames.dtype)
            normed = F.layer_norm(frames, self.norm.normalized_shape, weight, bias, self.norm.eps)
            normed = normed.to(self.queries.dtype)
        # Q learned queries attend to the P patches (every other layer) and to each other
        queries = self.queries.expand(len(frames), -1, -1)
        states = self.qformer(query_embeds=queries, encoder_hidden_states=normed).last_hidden_state
        # one linear layer into the language model's width: soft tokens, read there like words
        return self.projection(states).unflatten(0, patches.shape[:-2])
