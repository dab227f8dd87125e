"""What torch refuses without a GPU before it asks any device, and what a GPU does in one kernel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from torch.utils import _foreach_utils

aten: Any = torch.ops.aten


class Event:
    """torch.cuda.Event: all is done at once, but who asks for it waits; a thread beside the main one may."""

    wait_for: Callable[[str], None]

    def __init__(self, **options: Any) -> None: ...

    def record(self, stream: Any = None) -> None: ...

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.wait_for("event")


@contextmanager
def as_on_a_gpu(wait: Callable[[str], None], read_back: Callable[[Tensor, str], Tensor]) -> Iterator[None]:
    """torch as on a machine with a GPU.

    `wait` is told of waits for everything on the device; `read_back` gives a tensor's values, for `tolist` and
    `torch.save`. A mode for functions would be shorter, but autograd's thread does not take it over.
    """
    event = type("Event", (Event,), {"wait_for": staticmethod(wait)})
    optimizers = import_module("torch.optim.optimizer")
    answers: list[tuple[Any, str, Any]] = [
        (torch.cuda, "is_available", lambda: True),
        (torch.cuda, "device_count", lambda: 1),
        (torch.cuda, "current_device", lambda: 0),
        (torch.cuda, "is_bf16_supported", lambda *args, **options: True),
        (torch.cuda, "synchronize", lambda device=None: wait("synchronize")),
        (torch.cuda, "Event", event),
        (torch.cuda, "current_stream", lambda device=None: None),
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (_foreach_utils, "_foreach_supported_types", [*_foreach_utils._foreach_supported_types, FakeTensor]),
        (optimizers, "_foreach_supported_types", [*optimizers._foreach_supported_types, FakeTensor]),
        (nn.Module, "_apply", _apply),
        (F, "scaled_dot_product_attention", _attention),
        (F, "rms_norm", _norm),
        (FakeTensor, "tolist", lambda tensor: read_back(tensor, "tolist").tolist()),
        (FakeTensor, "__reduce_ex__", lambda tensor, protocol: read_back(tensor, "save").__reduce_ex__(protocol)),
        (FakeTensor, "__deepcopy__", _copied),
    ]
    with ExitStack() as stack:
        for place, name, answer in answers:
            stack.enter_context(mock.patch.object(place, name, answer))
        yield


_plain_apply = nn.Module._apply


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`module.to(...)` and its like: torch cannot exchange a fake tensor's inside, so a new one takes its place."""
    if not any(isinstance(tensor, FakeTensor) for tensor in (*module.parameters(), *module.buffers())):
        return _plain_apply(module, change, recurse)
    changed: dict[int, Tensor] = {}
    for part in module.modules():
        for kept in (part._parameters, part._buffers):
            for name, tensor in kept.items():
                if tensor is None:
                    continue
                if id(tensor) not in changed:
                    with torch.no_grad():
                        new = change(tensor)
                    own = isinstance(tensor, nn.Parameter) and new is not tensor
                    changed[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if own else new
                kept[name] = changed[id(tensor)]  # type: ignore[assignment]
    return module


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Of any shape."""
    made = tensor.detach().clone()
    memo[id(tensor)] = nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made
    return memo[id(tensor)]


_plain_norm, _plain_attention = F.rms_norm, F.scaled_dot_product_attention


def _norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """[..., D] -> [..., D]; on the device in one kernel that keeps its input and one number a row."""
    return FusedNorm.apply(x, weight) if isinstance(x, FakeTensor) else _plain_norm(x, shape, weight, eps)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """[N, H, M, D], [N, H, L, D] -> [N, H, M, D], by the kernel that an Ampere or Hopper GPU takes.

    Flash without a mask in half precision, else the memory-efficient one, whose mask is made ready as torch makes it.
    """
    if not isinstance(q, FakeTensor):
        return _plain_attention(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if torch.is_autocast_enabled("cuda"):
        low = torch.get_autocast_dtype("cuda")
        q, k, v = (each.to(low) for each in (q, k, v))
        if attn_mask is not None and attn_mask.dtype.is_floating_point:
            attn_mask = attn_mask.to(low)
    half = q.dtype in (torch.float16, torch.bfloat16)
    if attn_mask is None and half and q.shape[-1] <= 256:
        return aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, is_causal, False, scale=scale)[0]
    if attn_mask is not None:
        if attn_mask.dtype is torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill(~attn_mask, -torch.inf)
        if any(stride % 8 for stride in attn_mask.stride()[:-1]):  # rows must begin at multiples of 8 numbers
            last = attn_mask.shape[-1]
            attn_mask = F.pad(attn_mask, (0, -last % 8))[..., :last]
        attn_mask = attn_mask.expand(*q.shape[:3], k.shape[2])
    keep = torch.is_grad_enabled() and any(each.requires_grad for each in (q, k, v))
    return aten._scaled_dot_product_efficient_attention(q, k, v, attn_mask, keep, dropout_p, is_causal, scale=scale)[0]


class FusedNorm(torch.autograd.Function):
    """torch's fused root mean square norm, as autograd and memory see it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        ctx.save_for_backward(x, x.new_empty(x.shape[:-1], dtype=torch.float32), weight)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """[..., D] -> [..., D]; the weights are frozen."""
        return torch.empty_like(ctx.saved_tensors[0]), None
