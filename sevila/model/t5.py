"""T5 as this library runs it: transformers' modules and weights, without the work that no output needs.

In half precision the sum that runs through the layers is kept in float32, and each layer's work is done in half: the
results are then closer to those in float32. In float64 everything is float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5LayerCrossAttention, T5LayerNorm, T5Stack

from sevila.model.precision import at_least_float32


def read(encoder: T5Stack, embeds: Tensor, mask: Tensor) -> Tensor:
    """Run the encoder: [N, L, Dl] and mask [N, L] -> [N, L, Dl].

    Position bias and mask are joined once for all layers, and rows without padding need no mask.
    """
    length = embeds.shape[1]
    bias = encoder.block[0].layer[0].SelfAttention.compute_bias(length, length)
    if not mask.all():
        bias = torch.where(mask[:, None, None, :].bool(), bias, torch.finfo(bias.dtype).min)
    bias = bias.contiguous()
    states = at_least_float32(embeds)
    for block in encoder.block:
        states = block(states, None, bias)[0]
    return encoder.final_layer_norm(states)


def decode(decoder: T5Stack, hidden: Tensor, mask: Tensor, said: Tensor) -> Tensor:
    """Run the decoder over the M tokens it has said so far: ids [N, M] -> [N, M, Dl], M far below L.

    hidden   what the encoder read, [N, L, Dl], and its mask [N, L]
    """
    bias = decoder.block[0].layer[0].SelfAttention.compute_bias(said.shape[1], said.shape[1])
    later = torch.ones_like(bias, dtype=torch.bool).triu(1)
    bias = bias.masked_fill(later, torch.finfo(bias.dtype).min)
    seen = None if mask.all() else mask[:, None, None, :].bool()
    states = at_least_float32(decoder.embed_tokens(said))
    for block in decoder.block:
        states = block.layer[0](states, position_bias=bias)[0]
        states = states + look(block.layer[1], states, hidden, seen)
        states = block.layer[-1](states)
    return decoder.final_layer_norm(states)


def look(layer: T5LayerCrossAttention, states: Tensor, hidden: Tensor, seen: Tensor | None) -> Tensor:
    """Cross-attention of M tokens to L >> M encoder states, without keys and values for each of these.

    A score is (Wq x) . (Wk h) = (Wk' Wq x) . h, so Wk is applied to the M queries, and Wv likewise to the M results:
    4 M Dl (2 Dl + H L) operations instead of 4 L Dl², and [N, M H, Dl] kept instead of [N, 2 L, Dl].
    """
    attention = layer.EncDecAttention
    heads, width = attention.n_heads, attention.key_value_proj_dim
    asked = attention.q(layer.layer_norm(states)).unflatten(-1, (heads, width))  # [N, M, H, d]
    keys = attention.k.weight.unflatten(0, (heads, width))  # [H, d, Dl]
    values = attention.v.weight.unflatten(0, (heads, width))
    wanted = torch.einsum("nmhd,hdw->nmhw", asked, keys).flatten(1, 2)[:, None]  # all heads share the one key, h
    found = F.scaled_dot_product_attention(wanted, hidden[:, None], hidden[:, None], seen, scale=attention.scaling)
    found = found[:, 0].unflatten(1, (-1, heads))  # [N, M, H, Dl]
    return attention.o(torch.einsum("nmhw,hdw->nmhd", found, values).flatten(2))


class FusedNorm(T5LayerNorm):
    """T5's root mean square norm, in one kernel on a GPU. The result has the weight's dtype.

    The mean square is taken in float32 at least; transformers' own norm takes it in float32 even where all is float64.
    """

    def forward(self, states: Tensor) -> Tensor:
        if states.device.type == "cpu" and states.dtype != torch.float64:
            return super().forward(states)
        return F.rms_norm(states, self.weight.shape, self.weight.to(states.dtype), self.variance_epsilon).to(
            self.weight.dtype
        )


def fuse_norms(model: nn.Module) -> None:
    """Put `FusedNorm` in the place of every T5 norm, with its weights and under its name."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is T5LayerNorm:
                fused = FusedNorm(len(norm.weight), norm.variance_epsilon)
                fused.weight = norm.weight
                setattr(parent, name, fused)
