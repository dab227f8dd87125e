"""Which precision a device is fast in, what must not be rounded to half precision, and how float32 is multiplied.

Fast is bfloat16 on GPUs and processors with units for it, float32 elsewhere. Heads, logits and running sums are kept
in float32, or in float64 where the model computes in that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sevila.errors import UserError

# fp64 is for tests and comparisons; float16 overflows in T5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


@dataclass(frozen=True)
class Precision:
    """What the frozen parts are held in; heads are float32 over either (float64 over float64).

    language   T5's dtype
    tower      the vision tower's; float16 beside another one: its matrices alone, as LAVIS holds it
    """

    language: torch.dtype
    tower: torch.dtype

    @property
    def half_tower(self) -> bool:
        """Whether the tower is held as LAVIS holds it (`sevila.model.backbone.halve`)."""
        return self.tower != self.language


PRECISIONS = {name: Precision(dtype, dtype) for name, dtype in DTYPES.items()}
PRECISIONS["published"] = Precision(torch.bfloat16, torch.float16)  # LAVIS: ViT-g in float16, Flan-T5 in bfloat16
BF16_CAPABILITY = (8, 0)  # of NVIDIA GPUs with units for bfloat16: Ampere and later
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS repeats its sums in one order only if this gives it room
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


def find_precision(name: str | torch.dtype | None, device: str | torch.device) -> Precision:
    """The precision of that name; what is fast on the device for None or `auto`. UserError for an unknown one."""
    if name is None or name == "auto":
        dtype = fast_dtype(device)
        return Precision(dtype, dtype)
    if isinstance(name, str) and name in PRECISIONS:
        return PRECISIONS[name]
    if not isinstance(name, torch.dtype) or name not in DTYPES.values():
        raise UserError(f"dtype={name!r}: must be auto, {', '.join(PRECISIONS)}, or one of torch's of that precision")
    return Precision(name, name)


def fast_dtype(device: str | torch.device) -> torch.dtype:
    """What `precision=auto` takes on a device: bfloat16 or float32."""
    kind = torch.device(device).type
    fast = not gpu_lacks_bf16(device) if kind == "cuda" else kind == "cpu" and bool(bf16_units())
    return torch.bfloat16 if fast else torch.float32


def gpu_lacks_bf16(device: str | torch.device) -> bool:
    """Whether a device is an NVIDIA GPU that is here and has no units for bfloat16, such as a V100 or a T4."""
    if torch.device(device).type != "cuda" or torch.version.cuda is None or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(torch.device(device)) < BF16_CAPABILITY


def warn_if_slow(dtype: torch.dtype, device: str | torch.device) -> None:
    """Say on stderr, once, what a processor or a GPU without units for bfloat16 makes of a model in `dtype`."""
    if gpu_lacks_bf16(device):
        _warn_of_old_gpu(dtype)
    elif dtype == torch.bfloat16 and torch.device(device).type == "cpu" and not bf16_units():
        _warn_of_slow_bfloat16()


@cache
def _warn_of_slow_bfloat16() -> None:
    print(
        "sevila: warning: bfloat16 will be slow: this processor has no units for it; "
        "precision=auto (in Python dtype=None) takes float32 here",
        file=sys.stderr,
    )


@cache
def _warn_of_old_gpu(dtype: torch.dtype) -> None:
    what = "precision=auto takes float32 here, whose model is twice as large (16 GiB with Flan-T5 XL)"
    if dtype == torch.bfloat16:
        what = "bfloat16 will be slow; precision=auto takes float32 here, if 16 GiB are there (Flan-T5 XL)"
    print(f"sevila: warning: this GPU has no units for bfloat16: {what}", file=sys.stderr)


@contextmanager
def arithmetic(tf32: bool = False, deterministic: bool = False) -> Iterator[None]:
    """While entered, how CUDA multiplies float32, and whether it may add in any order; CPUs compute alike either way.

    tf32            products of float32 matrices from TF32's 10 bits of mantissa instead of 23, convolutions too, for
                    which torch itself does so by default: float32 means float32 here unless this says otherwise
    deterministic   two runs on one GPU give the same bits, or an error names the operation that cannot

    These are torch's settings of the whole process; as they were they are again at the end. cuBLAS takes its workspace
    when it is first used: what is to be deterministic comes before all else that computes on a GPU.
    """
    cudnn, benchmark = torch.backends.cudnn, torch.backends.cudnn.benchmark
    strict, lenient = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    workspace = os.environ.get(CUBLAS_WORKSPACE)
    try:
        if deterministic:
            os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
            cudnn.benchmark = False  # it would choose among algorithms by the clock
            torch.use_deterministic_algorithms(True)
        with _products(tf32):
            yield
    finally:
        cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(strict, warn_only=lenient)
        if deterministic and workspace is None:
            os.environ.pop(CUBLAS_WORKSPACE, None)


@contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """While entered, whether CUDA multiplies float32 as TF32.

    Since 2.9 torch has switches of two kinds for it, and refuses to tell the older ones where a program has set the
    newer: then these are used.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    switches = [matmul, cudnn]
    values: tuple[bool, bool] | tuple[str, str] = (False, True)
    name = "allow_tf32"
    try:
        before = [getattr(switch, name) for switch in switches]
    except RuntimeError:
        switches, name, values = [matmul, cudnn.conv, cudnn.rnn], "fp32_precision", ("ieee", "tf32")
        before = [getattr(switch, name) for switch in switches]
    try:
        for switch in switches:
            setattr(switch, name, values[tf32])
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, name, value)


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
