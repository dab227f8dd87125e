"""What the host is told when it reads from the fake device: what follows from what it sent there, else inventions.

Small tensors that came from the host (masks, ids, lengths) keep their values in mind, and so does what is computed from
such alone. Of all else it is known that it is finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

aten: Any = torch.ops.aten
MANY = 2**14  # numbers: of larger tensors nothing is kept in mind
JOINS = (aten.stack.default, aten.cat.default)


def flat(values: Sequence[Any]) -> list[Any]:
    """The values, and in the place of lists what is in them."""
    if not any(isinstance(value, list | tuple) for value in values):
        return list(values)
    return [leaf for value in values for leaf in (flat(value) if isinstance(value, list | tuple) else (value,))]


def invented(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Numbers 1, 2, 3, ... (no two scores alike), small whole numbers, True; of many numbers nothing but ones."""
    if dtype == torch.bool or math.prod(shape) > MANY:
        return torch.ones(shape, dtype=dtype)
    numbers = torch.arange(math.prod(shape), dtype=torch.float64).view(shape)
    return (numbers + 1 if dtype.is_floating_point else numbers % 4).to(dtype)


def known(tensor: Tensor) -> Tensor | None:
    """The values of a tensor, of any shape, where the host can know them."""
    return getattr(tensor, "known", None) if isinstance(tensor, FakeTensor) else tensor


def remember(tensor: Any, values: Tensor) -> None:
    """Let a tensor of the device have these values, of its shape."""
    if values.numel() <= MANY:
        tensor.known = values.clone()  # the host may change its own


def seen(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """What the host sees of a tensor of the device, of any shape; of weights nothing but ones that take no memory."""
    values = known(tensor)
    with unset_fake_temporarily():
        if isinstance(tensor, nn.Parameter) and tensor.numel() > MANY:
            return torch.ones((), dtype=dtype or tensor.dtype).expand(tensor.shape)
        return (invented(tensor.shape, tensor.dtype) if values is None else values).to(dtype or tensor.dtype)


def follow(func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Keep in mind what a call's result is, where that follows from what is known."""
    if not isinstance(out, FakeTensor):
        return
    inputs = [leaf for leaf in flat((*args, *kwargs.values())) if isinstance(leaf, Tensor)]
    values = [known(leaf) for leaf in inputs]
    with unset_fake_temporarily():
        if (func is aten.eq.Tensor and args[0] is args[1]) or (func is aten.ne.Scalar and args[1] == math.inf):
            remember(out, torch.ones(out.shape, dtype=torch.bool))  # two halves of `isfinite`
        elif func in JOINS and any(value is not None for value in values):
            remember(out, func([seen(leaf) for leaf in inputs], *args[1:]))
        elif inputs and all(value is not None for value in values) and out.numel() <= MANY:
            _compute(func, args, kwargs, out)
        elif out is args[0] and hasattr(out, "known"):  # written over with what nobody knows
            del out.known


def _compute(func: Any, args: Any, kwargs: Any, out: Any) -> None:
    def real(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(real, value))
        if isinstance(value, torch.device):
            return torch.device("cpu")
        return known(value) if isinstance(value, Tensor) else value

    made = func(*map(real, args), **{name: real(value) for name, value in kwargs.items()})
    if out is not args[0]:
        out.known = made
