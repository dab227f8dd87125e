"""The frozen language model at work: passes through T5, answer decoding, rows packed into passes.

T5 is transformers' modules and weights, without the work that no output needs. In half precision the sum that runs
through the layers is kept in float32, and each layer's work is done in half: the results are then closer to those in
float32. In float64 everything is float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5LayerCrossAttention, T5LayerNorm, T5Stack

from sevila.model.precision import at_least_float32

if TYPE_CHECKING:
    from sevila.model.backbone import Backbone

TOKENS = 16384  # in one pass through a tower or a language model, padding included
ENOUGH = 8  # a pass that fills 1/8 of the budget is worth running alone: it takes no longer rows, for their padding

# -- passes through T5 ---


def run_encoder(encoder: T5Stack, embeds: Tensor, mask: Tensor | None) -> Tensor:
    """Embeddings [N, L, Dl] and mask [N, L] (None where no row has padding) -> states [N, L, Dl].

    Position bias and mask are joined once for all layers.
    """
    blocks: Any = encoder.block
    length = embeds.shape[1]
    bias = blocks[0].layer[0].SelfAttention.compute_bias(length, length)
    if mask is not None:
        bias = torch.where(mask[:, None, None, :].bool(), bias, torch.finfo(bias.dtype).min)
    bias = bias.contiguous()
    states = at_least_float32(embeds)
    for block in blocks:
        states = block(states, None, bias)[0]
    return encoder.final_layer_norm(states)


def run_decoder(decoder: T5Stack, hidden: Tensor, mask: Tensor | None, tokens: Tensor) -> Tensor:
    """The decoder over its first M tokens, ids [N, M], M far below L -> states [N, M, Dl].

    hidden   the encoder's states [N, L, Dl], and their mask [N, L], None where no row has padding
    """
    blocks: Any = decoder.block
    bias = blocks[0].layer[0].SelfAttention.compute_bias(tokens.shape[1], tokens.shape[1])
    later = torch.ones_like(bias, dtype=torch.bool).triu(1)
    bias = bias.masked_fill(later, torch.finfo(bias.dtype).min)
    seen = None if mask is None else mask[:, None, None, :].bool()
    states = at_least_float32(decoder.embed_tokens(tokens))
    for block in blocks:  # self-attention, attention to the encoder's states, feed-forward
        states = block.layer[0](states, position_bias=bias)[0]
        states = states + cross_attention(block.layer[1], states, hidden, seen)
        states = block.layer[-1](states)
    return decoder.final_layer_norm(states)


def cross_attention(layer: T5LayerCrossAttention, states: Tensor, hidden: Tensor, seen: Tensor | None) -> Tensor:
    """M tokens [N, M, Dl] attend to L >> M encoder states [N, L, Dl], without keys and values for each of these.

    A score is (Wq x) . (Wk h) = (Wk' Wq x) . h, so Wk is applied to the M queries, and Wv likewise to the M results:
    4 M Dl (2 Dl + H L) operations instead of 4 L Dl², and [N, M H, Dl] kept instead of [N, 2 L, Dl].
    """
    attention = layer.EncDecAttention
    heads, width = attention.n_heads, attention.key_value_proj_dim
    asked = rearrange(attention.q(layer.layer_norm(states)), "n m (h d) -> n m h d", h=heads)
    keys = attention.k.weight.unflatten(0, (heads, width))  # [H, d, Dl]
    values = attention.v.weight.unflatten(0, (heads, width))
    wanted = torch.einsum("nmhd,hdw->nmhw", asked, keys).flatten(1, 2)[:, None]  # all heads share the one key, h
    found = F.scaled_dot_product_attention(wanted, hidden[:, None], hidden[:, None], seen, scale=attention.scaling)
    found = rearrange(found[:, 0], "n (m h) w -> n m h w", h=heads)
    return attention.o(torch.einsum("nmhw,hdw->nmhd", found, values).flatten(2))


class FusedNorm(T5LayerNorm):
    """T5's root mean square norm, in one kernel on a GPU. The result has the weight's dtype.

    The mean square is taken in float32 at least; transformers' own norm takes it in float32 even where all is float64.
    """

    def forward(self, states: Tensor) -> Tensor:
        """[..., Dl] -> [..., Dl]."""
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


# -- answer decoding: which option letter does the decoder prefer? ---


class AnswerDecoding(Protocol):
    def logits(self, backbone: Backbone, hidden: Tensor, mask: Tensor | None, letter_ids: Sequence[int]) -> Tensor:
        """Encoder states [N, L, Dl] and mask [N, L] (None: no padding) -> logits of the letters [N, A]."""


class Direct:
    """The model is taken to begin with "Option": one decoder pass, well defined for every row.

    So the Answerer is trained ("Option X", paper, section 3.3), and so pseudo-labels are made.
    """

    def logits(self, backbone: Backbone, hidden: Tensor, mask: Tensor | None, letter_ids: Sequence[int]) -> Tensor:
        """[N, L, Dl] -> [N, A], behind "Option"."""
        first = backbone.ids([backbone.start, backbone.token("Option")]).expand(len(hidden), -1)
        return backbone.logits(backbone.run_decoder(hidden, mask, first)[:, 1], letter_ids)


class Official:
    """The official code's rule: the letters' logits at step 1, after whatever first token the model prefers."""

    def logits(self, backbone: Backbone, hidden: Tensor, mask: Tensor | None, letter_ids: Sequence[int]) -> Tensor:
        """[N, L, Dl] -> [N, A], behind the row's likeliest first token."""
        start = backbone.ids([backbone.start]).expand(len(hidden), -1)
        first = backbone.logits(backbone.run_decoder(hidden, mask, start)[:, 0]).argmax(-1, keepdim=True)
        tokens = torch.cat([start, first], dim=1)
        return backbone.logits(backbone.run_decoder(hidden, mask, tokens)[:, 1], letter_ids)


class Compared:
    """One rule's logits, and a count of how often a second rule prefers the same letter."""

    def __init__(self, decoding: AnswerDecoding, second: AnswerDecoding) -> None:
        self.decoding, self.second = decoding, second
        self.rows = 0
        self._equal: Tensor | int = 0  # on the device until somebody asks

    def logits(self, backbone: Backbone, hidden: Tensor, mask: Tensor | None, letter_ids: Sequence[int]) -> Tensor:
        """[N, L, Dl] -> [N, A], by the first rule."""
        first = self.decoding.logits(backbone, hidden, mask, letter_ids)
        second = self.second.logits(backbone, hidden, mask, letter_ids)
        self._equal = self._equal + (first.argmax(-1) == second.argmax(-1)).sum()
        self.rows += len(hidden)
        return first

    @property
    def equal(self) -> int:
        """Rows for which both rules prefer the same letter."""
        return int(self._equal)

    @property
    def agreement(self) -> float:
        """Their share, in percent."""
        return round(100.0 * self.equal / self.rows, 2)


ANSWER_DECODINGS: dict[str, type[AnswerDecoding]] = {"direct": Direct, "official": Official}

# -- rows of different lengths in passes ---


def passes(lengths: Sequence[int], tokens: int = TOKENS) -> Iterator[list[int]]:
    """Row numbers, pass by pass, each row once and from short to long; rows x longest <= tokens, or one row.

    Rows of one length keep their order, and once a pass has work enough it takes no others. So a pass is padded only
    where there are few rows of a length, and then little, as its rows are neighbours in length.
    """
    part: list[int] = []
    shortest = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[row]
        full = (len(part) + 1) * length > tokens
        done = length > shortest and len(part) * shortest * ENOUGH >= tokens
        if part and (full or done):
            yield part
            part = []
        if not part:
            shortest = length
        part.append(row)
    if part:
        yield part
