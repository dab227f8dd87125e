"""Scorers that are trained by the answers ("ATP" and "Differentiable Top-K" of table 6): networks, features, files.

A file of a trained selector is NAME.safetensors and NAME.json, as a head's (`sevila.checkpoints.heads`), with the role
"selector". Its features come from the frozen backbone alone, so it goes with any Localizer and any Answerer on it.
In these docstrings n is the number of frames and D the width of their embeddings, the language model's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function

from sevila.checkpoints.heads import check_backbone, fill
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.files import file_digest, read_json
from sevila.model.backbone import Backbone
from sevila.model.precision import at_least_float32, wide
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.schema import named
from sevila.selection.scorers import question_text
from sevila.transfer import upload

ROLE = "selector"


@dataclass(frozen=True)
class NetworkConfig:
    """The name of a network and the arguments it was built with: enough to build it again."""

    name: str
    sizes: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **self.sizes}


class Network(nn.Module):
    """A module that scores frames and, in training, picks k of them so that gradients reach the scores."""

    config: NetworkConfig

    def forward(self, frames: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of frames [B, n, D] and question [B, D], mask [B, n] -> scores [B, n], -inf at padding.

        In float32, in float64 where the embeddings are.
        """
        raise NotImplementedError

    def anneal(self, done: float) -> None:
        """Change what changes in the course of a training, of which the share `done` (0 to below 1) is behind."""

    def pick(self, scores: Tensor, k: int) -> Tensor:
        """Scores [B, n] -> k rows of weights over the frames, in time order: [B, k, n]; k frames there must be."""
        raise NotImplementedError


def check_sizes(network: str, **sizes: float) -> None:
    """UserError for a size that is not above 0."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"{network}: {name}={value!r}: must be above 0")


# -- ATP ---


class ATP(Network):
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
        states = self.encoder(tokens, src_key_padding_mask=padding)[:, 1:]
        return at_least_float32(self.logit(states)[..., 0]).masked_fill(~mask, -torch.inf)

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


# -- differentiable top-K ---


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
        """Scores [B, n] and noise [S, B, n] -> indicators [B, k, n]."""
        places = (scores + sigma * noise).topk(k, dim=-1).indices.sort(-1).values.permute(1, 2, 0)  # [B, k, S]
        counts = scores.new_zeros(len(scores), k, scores.shape[-1])
        counts.scatter_add_(2, places, torch.ones_like(places, dtype=scores.dtype))
        ctx.save_for_backward(places, noise)
        ctx.sigma = sigma
        return counts / len(noise)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient of the indicators [B, k, n] -> of the scores [B, n]."""
        places, noise = ctx.saved_tensors
        products = gradient.gather(2, places).sum(1)  # [B, S]
        return torch.einsum("bs,sbn->bn", products, noise) / (ctx.sigma * len(noise)), None, None, None


class PerturbedTopK(Network):
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


# -- features, scores, files ---

NETWORKS: dict[str, Callable[..., Network]] = {"atp": ATP, "perturbed": PerturbedTopK}


@torch.no_grad()
def frame_features(backbone: Backbone, patches: Tensor) -> Tensor:
    """Patches [..., P, Dv] -> frame embeddings [..., Dl]: the mean of what BLIP-2's own Q-Former reads from them."""
    reader = backbone.zeroshot.to(patches.device)  # it lies on the CPU until somebody reads with it
    return at_least_float32(reader(patches).mean(-2))


@torch.no_grad()
def text_features(backbone: Backbone, questions: Sequence[Question]) -> Tensor:
    """Embeddings of M questions with their options [M, Dl]: the mean of the frozen T5 encoder's states."""
    texts = [question_text(question) for question in questions]
    batch = backbone.tokenizer(
        texts, padding="longest", truncation=True, max_length=backbone.text_tokens, return_tensors="pt"
    )
    states = at_least_float32(backbone.run_encoder(*backbone.embed(batch.input_ids, batch.attention_mask)))
    weights = upload(batch.attention_mask[..., None].to(states.dtype), states.device)
    return (states * weights).sum(1) / weights.sum(1)


class TrainedScorer:
    """The logits of a trained selector's network (ATP: Buch et al. 2022; perturbed top-K: Cordonnier et al. 2021)."""

    needs_pictures: ClassVar[bool] = False

    def __init__(self, network: Network, backbone: Backbone) -> None:
        self.network, self.backbone = network, backbone

    @torch.no_grad()
    def score(self, encoded: EncodedVideo, questions: Sequence[Question], pixels: Tensor | None = None) -> Tensor:
        """[M, T]: the network's scores."""
        seen = frame_features(self.backbone, encoded.patches).expand(len(questions), -1, -1)
        mask = torch.ones(seen.shape[:2], dtype=torch.bool, device=seen.device)
        return self.network(seen, text_features(self.backbone, questions), mask)


def atp(sevila: SeViLA, file: str) -> TrainedScorer:
    """The scorer in the file, or run folder, of a trained ATP."""
    return TrainedScorer(load_network(file, "atp", sevila.backbone), sevila.backbone)


def perturbed(sevila: SeViLA, file: str) -> TrainedScorer:
    """The scorer in the file, or run folder, of a selector trained through differentiable top-K."""
    return TrainedScorer(load_network(file, "perturbed", sevila.backbone), sevila.backbone)


def new_network(node: Mapping[str, Any], backbone: Backbone, seed: int) -> Network:
    """An untrained network that a config node names, the same for the same seed. UserError for a wrong key or value."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = named("task.network", node, NETWORKS, input_width=backbone.zeroshot.config.language_width)
    return network.to(backbone.device, wide(backbone.dtype))


def load_network(place: str, name: str, backbone: Backbone) -> Network:
    """The network in a selector file, or in a run folder's selector.safetensors; frozen, on the backbone's device.

    Raises UserError where there is none, and for a file of another kind, over another backbone, or that does not fit.
    """
    path = Path(place)
    path = path / f"{ROLE}.safetensors" if path.is_dir() else path
    description = path.with_suffix(".json")
    if not path.is_file() or not description.is_file():
        raise UserError(f"scorer.file={place}: no selector file or run folder that holds {ROLE}.safetensors and .json")
    described = read_json(description)
    if not isinstance(described, dict) or described.get("role") != ROLE or not isinstance(described.get("head"), dict):
        raise UserError(f"scorer.file={place}: {description} does not describe a trained selector")
    if described["head"].get("name") != name:
        raise UserError(f"scorer.file={place}: holds a trained {described['head'].get('name')}; choose that scorer")
    made_for = described.get("backbone")
    check_backbone(f"scorer.file={place}", made_for if isinstance(made_for, dict) else {}, backbone)
    network = named(str(description), described["head"], NETWORKS)
    fill(network, path)
    if described.get("sha256") != file_digest(path):
        raise UserError(f"{path}: holds other weights than {description.name} describes; take both files from one run")
    return network.requires_grad_(False).eval().to(backbone.device, wide(backbone.dtype))
