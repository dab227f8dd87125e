"""What must not be rounded to half precision is kept in float32, or in float64 where the model computes in that."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay. Any shape."""
    return tensor.to(wide(tensor.dtype))


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of heads, logits and running sums of a model in `dtype`: float64 for float64, else float32."""
    return torch.promote_types(dtype, torch.float32)
