"""Scorers that were trained by the answers: their features, their files, and how they score.

A file of a trained selector is NAME.safetensors and NAME.json, as a head's (`sevila.checkpoints.heads`), with the role
"selector". Its features come from the frozen backbone alone, so it goes with any Localizer and any Answerer on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sevila.checkpoints.heads import check_backbone, fill
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.files import file_digest, read_json
from sevila.model.backbone import Backbone
from sevila.model.precision import at_least_float32, wide
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.schema import named
from sevila.selection.atp import ATP
from sevila.selection.network import Network
from sevila.selection.perturbed import PerturbedTopK
from sevila.selection.scorers import question_text

ROLE = "selector"
NETWORKS: dict[str, Callable[..., Network]] = {"atp": ATP, "perturbed": PerturbedTopK}


@torch.no_grad()
def frame_features(backbone: Backbone, patches: Tensor) -> Tensor:
    """Patches [..., P, Dv] -> frame embeddings [..., Dl]: the mean of what BLIP-2's own Q-Former reads from them."""
    return at_least_float32(backbone.zeroshot(patches).mean(-2))


@torch.no_grad()
def text_features(backbone: Backbone, questions: Sequence[Question]) -> Tensor:
    """Embeddings of M questions with their options [M, Dl]: the mean of the frozen T5 encoder's states."""
    texts = [question_text(question) for question in questions]
    batch = backbone.tokenizer(
        texts, padding="longest", truncation=True, max_length=backbone.text_tokens, return_tensors="pt"
    ).to(backbone.device)
    states = at_least_float32(backbone.run_encoder(backbone.language.shared(batch.input_ids), batch.attention_mask))
    weights = batch.attention_mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


class TrainedScorer:
    """The logits of a trained selector's network (ATP: Buch et al. 2022; perturbed top-K: Cordonnier et al. 2021)."""

    needs_pictures: ClassVar[bool] = False

    def __init__(self, network: Network, backbone: Backbone) -> None:
        self.network, self.backbone = network, backbone

    @torch.no_grad()
    def score(self, encoded: EncodedVideo, questions: Sequence[Question], pixels: Tensor | None = None) -> Tensor:
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
    said = read_json(description)
    if not isinstance(said, dict) or said.get("role") != ROLE or not isinstance(said.get("head"), dict):
        raise UserError(f"scorer.file={place}: {description} does not describe a trained selector")
    if said["head"].get("name") != name:
        raise UserError(f"scorer.file={place}: holds a trained {said['head'].get('name')}; choose that scorer")
    made_for = said.get("backbone")
    check_backbone(f"scorer.file={place}", made_for if isinstance(made_for, dict) else {}, backbone)
    network = named(str(description), said["head"], NETWORKS)
    fill(network, path)
    if said.get("sha256") != file_digest(path):
        raise UserError(f"{path}: holds other weights than {description.name} describes; take both files from one run")
    return network.requires_grad_(False).eval().to(backbone.device, wide(backbone.dtype))
