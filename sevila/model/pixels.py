"""Pictures on their way to the tower: they travel as uint8, and are normalised where the tower is."""

from __future__ import annotations

import torch
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of any shape on the device; the host does not wait until it is there.

    To CUDA it goes from page-locked memory, which it is copied to unless it lies there already.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def normalize(pixels: Tensor) -> Tensor:
    """uint8 RGB [..., 3, H, W] -> float32 [..., 3, H, W] with CLIP's mean and deviation, on the same device.

    The numbers are the same to the bit on every device: three exact operations, none of them by a scalar of the host
    (CUDA would multiply by its inverse).
    """
    full = (255.0, 255.0, 255.0)
    white, mean, std = upload(torch.tensor([full, CLIP_MEAN, CLIP_STD]), pixels.device).view(3, 3, 1, 1)
    return (pixels.to(torch.float32) / white).sub_(mean).div_(std)
