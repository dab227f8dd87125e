"""What activation checkpointing changes: memory, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from sevila.checkpoints import backbone as backbones
from sevila.model.backbone import Backbone
from sevila.model.head import Head
from sevila.model.sevila import Answerer, Localizer


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


def step(backbone: Backbone, kind: str) -> tuple[Tensor, dict[str, Tensor], int]:
    """Loss, gradients and bytes kept for the backward pass, of a training step with dropout."""
    head: Head = copy.deepcopy(backbone.zeroshot)
    head.requires_grad_(True).train()
    patches = backbone.encode(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if kind == "localizer":
            loss = Localizer(backbone, head).loss(patches, ["is it red?"] * 4, [True, False, True, True])
        else:
            loss = Answerer(backbone, head).loss(patches.view(2, 2, *patches.shape[1:]), ["red or blue?"] * 2, [0, 1])
    loss.backward()
    weights = {p.untyped_storage().data_ptr() for p in [*backbone.parameters(), *head.parameters()]}
    gradients = {name: p.grad for name, p in head.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, sum(size for place, size in kept.items() if place not in weights)


@pytest.mark.parametrize("kind", ["localizer", "answerer"])
def test_checkpointing_changes_memory_only(kind: str) -> None:
    loss, gradients, kept = step(backbones.load(), kind)
    saving = backbones.load(checkpointing=True)
    less_loss, less_gradients, less_kept = step(saving, kind)
    assert torch.equal(less_loss, loss)
    assert gradients.keys() == less_gradients.keys() and len(gradients) > 40
    assert all(torch.equal(gradients[name], less_gradients[name]) for name in gradients)
    assert gradients["queries"].abs().max() > 0
    assert less_kept < 0.4 * kept, (less_kept, kept)
    assert not saving.language.training


def test_a_copied_head_computes_with_its_own_weights() -> None:
    backbone = backbones.load(checkpointing=True)
    head = copy.deepcopy(backbone.zeroshot).requires_grad_(True)
    patches = backbone.encode(torch.randn(1, 3, 64, 64))
    before = head(patches)
    with torch.no_grad():
        for parameter in backbone.zeroshot.parameters():
            parameter.zero_()
    assert torch.equal(head(patches), before) and before.abs().max() > 0
    assert backbone.zeroshot(patches).abs().max() == 0
