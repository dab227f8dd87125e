"""ATP: a small transformer over frozen frame embeddings that learns to pick frames (Buch et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sevila.errors import UserError
from sevila.model.precision import at_least_float32
from sevila.selection.network import NetworkConfig, check_sizes


class ATP(nn.Module):
    """Atemporal probe (Buch et al., CVPR 2022, "Revisiting the 'Video' in Video-Language Understanding").

    A transformer encoder without positions reads the question's embedding and those of n frames, and gives one logit
    a frame: it cannot know in which order they came. In training frames are picked by a straight-through
    Gumbel-softmax: a hard choice forward, the softmax's gradient backward. The paper picks one frame; k are drawn
    one after another without replacement. In a test the selector takes the k best logits.
    """

    def __init__(
        self,
        input_width: int,
        width: int = 256,
        layers: int = 2,
        attention_heads: int = 4,
        dropout: float = 0.1,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes("atp", width=width, layers=layers, attention_heads=attention_heads, temperature=temperature)
        if width % attention_heads:
            raise UserError(f"atp: width={width}: must be a multiple of attention_heads={attention_heads}")
        if not 0 <= dropout < 1:
            raise UserError(f"atp: dropout={dropout}: must be from 0 to below 1")
        sizes = {"input_width": input_width, "width": width, "layers": layers, "attention_heads": attention_heads}
        self.config = NetworkConfig("atp", {**sizes, "dropout": dropout, "temperature": temperature})
        self.temperature = temperature
        self.frame = nn.Sequential(nn.LayerNorm(input_width), nn.Linear(input_width, width))
        self.text = nn.Sequential(nn.LayerNorm(input_width), nn.Linear(input_width, width))
        self.kinds = nn.Parameter(0.02 * torch.randn(2, width))  # tells the question from the frames
        layer = nn.TransformerEncoderLayer(
            width, attention_heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.logit = nn.Linear(width, 1, bias=False)  # one number for all frames would change no choice

    def forward(self, frames: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Frame embeddings [B, n, D], the question's [B, D], mask [B, n] -> logits [B, n], -inf at padding."""
        question = (self.text(text) + self.kinds[0])[:, None]
        tokens = torch.cat([question, self.frame(frames) + self.kinds[1]], dim=1)
        padding = torch.cat([mask.new_zeros(len(mask), 1), ~mask], dim=1)
        read = self.encoder(tokens, src_key_padding_mask=padding)[:, 1:]
        return at_least_float32(self.logit(read)[..., 0]).masked_fill(~mask, -torch.inf)

    def anneal(self, done: float) -> None:
        """The temperature stays what it is."""

    def pick(self, scores: Tensor, k: int) -> Tensor:
        """Logits [B, n] -> k one-hot rows in time order [B, k, n], none twice; gradients as of softmaxes."""
        noise = -torch.empty_like(scores).exponential_().log()  # Gumbel
        left = (scores + noise) / self.temperature
        rows, places = [], []
        for _ in range(k):
            soft = left.softmax(-1)
            place = left.argmax(-1, keepdim=True)
            hard = torch.zeros_like(soft).scatter(-1, place, 1.0)
            rows.append(hard + (soft - soft.detach()))  # in value exactly `hard`
            places.append(place)
            left = left.masked_fill(hard.bool(), -torch.inf)
        order = torch.cat(places, dim=-1).argsort(-1)
        return torch.stack(rows, dim=1).gather(1, order[..., None].expand(-1, -1, scores.shape[-1]))
