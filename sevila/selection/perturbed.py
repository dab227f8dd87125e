"""Differentiable top-K by the perturbed maximum (Cordonnier et al. 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from sevila.model.precision import at_least_float32
from sevila.selection.network import NetworkConfig, check_sizes


class PerturbedIndicators(Function):
    """Scores [B, n] -> the expected sorted top-k indicators [B, k, n] under Gaussian noise of size sigma.

    noise [S, B, n] are the S samples, standard normal. Row i of the indicators of a sample is one-hot at the i-th in
    time of its k best frames. Backward: the perturbed optimiser's estimator (Berthet et al. 2020), the mean over the
    samples of <gradient, indicators> * noise / sigma: the whole Jacobian, of every indicator by every score. The first
    code of Cordonnier et al. keeps of it only each frame's indicators by that frame's own score; its page says so. A
    score of -inf is never among the best where k others are.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: int, sigma: float, noise: Tensor) -> Tensor:
        places = (scores + sigma * noise).topk(k, dim=-1).indices.sort(-1).values.permute(1, 2, 0)  # [B, k, S]
        counts = scores.new_zeros(len(scores), k, scores.shape[-1])
        counts.scatter_add_(2, places, torch.ones_like(places, dtype=scores.dtype))
        ctx.save_for_backward(places, noise)
        ctx.sigma = sigma
        return counts / len(noise)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        places, noise = ctx.saved_tensors
        products = gradient.gather(2, places).sum(1)  # [B, S]
        return torch.einsum("bs,sbn->bn", products, noise) / (ctx.sigma * len(noise)), None, None, None


class PerturbedTopK(nn.Module):
    """Differentiable top-K (Cordonnier et al., CVPR 2021, "Differentiable Patch Selection for Image Recognition").

    A small network scores every frame by itself from its embedding and the question's. In training the scores are
    brought to 0..1, `samples` draws of noise of size `sigma` are added, and the mean of the sorted top-k indicators
    is a soft selection of the frames' features. In a test the selector takes the k best scores. Where sigma is small
    only near ties have a gradient: on a small made problem (6 frames) 0.05 stalled and 0.5 learned it whole.

    decay   sigma falls linearly to 0 in the course of the training. Cordonnier et al. do so from sigma = 0.05, and add
            the scores' entropy to the loss (`task.entropy`)
    """

    def __init__(
        self, input_width: int, width: int = 256, samples: int = 500, sigma: float = 0.5, decay: bool = False
    ) -> None:
        super().__init__()
        check_sizes("perturbed", width=width, samples=samples, sigma=sigma)
        sizes = {"input_width": input_width, "width": width, "samples": samples, "sigma": sigma, "decay": decay}
        self.config = NetworkConfig("perturbed", sizes)
        self.samples, self.first_sigma, self.decay = samples, sigma, decay
        self.sigma = sigma  # of the next step
        self.frame, self.text = nn.LayerNorm(input_width), nn.LayerNorm(input_width)
        self.score = nn.Sequential(nn.Linear(2 * input_width, width), nn.GELU(), nn.Linear(width, 1, bias=False))

    def forward(self, frames: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Frame embeddings [B, n, D], the question's [B, D], mask [B, n] -> scores [B, n], -inf at padding."""
        question = self.text(text)[:, None].expand_as(frames)
        pairs = torch.cat([self.frame(frames), question], dim=-1)
        return at_least_float32(self.score(pairs)[..., 0]).masked_fill(~mask, -torch.inf)

    def anneal(self, done: float) -> None:
        if self.decay:
            self.sigma = self.first_sigma * (1 - done)

    def pick(self, scores: Tensor, k: int) -> Tensor:
        """Scores [B, n] -> soft indicators of the k best, in time order [B, k, n]; each row sums to 1."""
        padding = scores.isneginf()
        known = scores.masked_fill(padding, 0.0)
        low = known.masked_fill(padding, torch.inf).amin(-1, keepdim=True)
        high = scores.amax(-1, keepdim=True)
        unit = ((known - low) / (high - low).clamp(min=1e-6)).masked_fill(padding, -torch.inf)
        noise = torch.randn(self.samples, *scores.shape, device=scores.device, dtype=scores.dtype)
        return PerturbedIndicators.apply(unit, k, self.sigma, noise)
