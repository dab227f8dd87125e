"""Copies between the host's memory and a CUDA device that nobody waits for: from and to page-locked memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of any shape on the device; the host goes on before it is there.

    To CUDA it is copied from page-locked memory; it is brought there first unless it lies there already, as batches do.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def download(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor of any shape to the host; what comes back waits until it is there, and gives it.

    Of a tensor of the host it gives this tensor itself.
    """
    if tensor.device.type != "cuda":
        return lambda: tensor
    here = tensor.to("cpu", non_blocking=True)  # torch takes page-locked memory for it
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(tensor.device))

    def wait() -> Tensor:
        copied.synchronize()
        return here

    return wait
