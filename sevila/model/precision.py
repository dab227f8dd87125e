"""Which precision a device is fast in, and what must not be rounded to half precision.

Fast is bfloat16 on GPUs and on processors with units for it, float32 elsewhere. Heads, logits and running sums are kept
in float32, or in float64 where the model computes in that.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sevila.errors import UserError

# fp64 is for tests and comparisons; float16 overflows in T5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}
CPUINFO = Path("/proc/cpuinfo")  # Linux's; on other systems no units are known
# Linux's names of instructions that multiply bfloat16: Intel's tiles, AVX-512's, ARM's. Without them PyTorch computes
# bfloat16 by way of float32, which takes longer than float32 itself, on AVX-512 too.
BF16_UNITS = ("amx_bf16", "avx512_bf16", "bf16")


def bf16_units() -> tuple[str, ...]:
    """The instructions for bfloat16 that this processor has, by Linux's names; empty where none is known."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    pairs = [line.partition(":") for line in lines]
    flags = {flag for key, _, value in pairs if key.strip() in ("flags", "Features") for flag in value.split()}
    return tuple(unit for unit in BF16_UNITS if unit in flags)


def find_device(name: str | torch.device) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one. UserError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise UserError(f"device={name!r}: must be auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and torch.cuda.device_count() <= (device.index or 0):
        raise UserError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA GPUs; use device=cpu")
    return device


def find_dtype(name: str | torch.dtype | None, device: str | torch.device) -> torch.dtype:
    """The dtype of that name; what is fast on the device for None or `auto`. UserError for an unknown one."""
    if name is None or name == "auto":
        return fast_dtype(device)
    dtype = DTYPES.get(name) if isinstance(name, str) else name
    if dtype is None or dtype not in DTYPES.values():
        raise UserError(f"dtype={name!r}: must be auto, {', '.join(DTYPES)}, or one of torch's of that precision")
    return dtype


def fast_dtype(device: str | torch.device) -> torch.dtype:
    """What `precision=auto` takes on a device: bfloat16 or float32."""
    kind = torch.device(device).type
    return torch.bfloat16 if kind == "cuda" or (kind == "cpu" and bf16_units()) else torch.float32


def warn_if_slow(dtype: torch.dtype, device: str | torch.device) -> None:
    """Say on stderr, once, that bfloat16 was asked for on a processor that has no units for it."""
    if dtype == torch.bfloat16 and torch.device(device).type == "cpu" and not bf16_units():
        _warn_of_slow_bfloat16()


@cache
def _warn_of_slow_bfloat16() -> None:
    print(
        "sevila: warning: bfloat16 will be slow: this processor has no units for it; "
        "precision=auto (in Python dtype=None) takes float32 here",
        file=sys.stderr,
    )


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
