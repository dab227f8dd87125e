"""Pictures on their way to the tower: they travel as uint8, and are normalised where the tower is."""

from __future__ import annotations

import torch
from torch import Tensor

from sevila.transfer import upload

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def normalize(pixels: Tensor) -> Tensor:
    """uint8 RGB [..., 3, H, W] -> float32 [..., 3, H, W] with CLIP's mean and deviation, on the same device.

    The numbers are the same to the bit on every device: three exact operations, none of them by a scalar of the host
    (CUDA would multiply by its inverse).
    """
    full = (255.0, 255.0, 255.0)
    white, mean, std = upload(torch.tensor([full, CLIP_MEAN, CLIP_STD]), pixels.device).view(3, 3, 1, 1)
    return (pixels.to(torch.float32) / white).sub_(mean).div_(std)
