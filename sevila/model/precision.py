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


def finite(tensor: Tensor) -> bool:
    """Whether a tensor of any shape holds floating-point numbers alone: no NaN, no infinity, no integers.

    A sum shows both, in one pass at the speed of memory; what overflows it is looked at again.
    """
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        return False
    if tensor.is_meta:  # a shape without values
        return True
    return bool(tensor.sum(dtype=wide(tensor.dtype)).isfinite()) or bool(tensor.isfinite().all())
