"""From a sample or a batch to patches: through the frozen tower, or out of the feature store."""

from __future__ import annotations

import torch
from torch import Tensor

from sevila.data.loading import Batch, Sample
from sevila.model.backbone import Backbone

GROUP = 32  # frames in a pass of the tower for the store, on a GPU


def patches_of(backbone: Backbone, item: Sample | Batch) -> Tensor:
    """[T, P, Dv] of a sample, [B, T, P, Dv] of a batch, in the backbone's dtype and on its device.

    What the feature store lacks is encoded and added to it. Padding of a batch comes out as the tower's answer to
    zeros, or with a store as zeros: nobody reads it.
    """
    stored = item.stored
    if stored is None:
        return backbone.encode(item.pixels)
    patches = None if stored.patches is None else stored.patches.to(backbone.device, non_blocking=True)
    if not bool(stored.missing.any()):
        return patches
    fresh = stored.store.settle(_encoded(backbone, item.pixels))
    stored.keep(fresh)
    if patches is None:
        patches = fresh.new_zeros((*stored.missing.shape, *fresh.shape[1:]))
    patches[stored.missing.to(patches.device)] = fresh
    return patches


def _encoded(backbone: Backbone, pixels: Tensor) -> Tensor:
    """Patches [M, P, Dv] that do not depend on which frames happen to be missing together.

    On a CPU a frame's patches are the same to the bit in any company (but in MKL's mode for all processors, where the
    last digits differ). A GPU chooses its kernels by the batch's shape and rounds accordingly: so that shape is always
    the same there, filled up with blank frames.
    """
    if backbone.device.type == "cpu":
        return backbone.encode(pixels)
    parts = []
    for part in pixels.split(GROUP):
        blank = part.new_zeros((GROUP - len(part), *part.shape[1:]))
        parts.append(backbone.encode(torch.cat([part, blank]))[: len(part)])
    return torch.cat(parts)
