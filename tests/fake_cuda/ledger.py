"""What is counted on the fake device: where the host waits, what is copied, kernels, operations and bytes."""

from __future__ import annotations

import os
import sys
import weakref
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

import sevila

PACKAGE = f"{Path(sevila.__file__).parent}{os.sep}"
BLOCK = 512  # bytes: the allocator's unit
BACKWARD = "backward"  # the place of what autograd does on its own
SMALL = 64 * 1024  # bytes: a copy of so many from plain memory does not hold up the host, says NVIDIA


def frames() -> list[FrameType]:
    """The calls that led here, innermost first."""
    found, frame = [], sys._getframe(1)
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


@dataclass
class Ledger:
    """The counts since the beginning, or since `start`.

    layers      modules of transformer blocks, by id: a wait inside them is one a layer
    waits       place and kind -> how often the host waited for the device
    in_layers   those of them inside a block, or in the backward pass
    copies      place -> how often the host waited for a copy to the device, as its memory is not page-locked or
                `non_blocking` was not said; a wait for all that the device still had to do
    uploads     all copies to the device: their number and bytes
    kernels     calls that compute something on the device
    operations  of matrix products, convolutions and attention; a multiplication and an addition are two
    now, peak   bytes on the device
    """

    layers: set[int] = field(default_factory=set)
    waits: Counter[str] = field(default_factory=Counter)
    in_layers: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    kernels: int = 0
    operations: int = 0
    now: int = 0
    peak: int = 0
    _live: dict[int, int] = field(default_factory=dict)

    def start(self) -> None:
        """Forget what was counted; what lies on the device stays there."""
        for counts in (self.waits, self.in_layers, self.copies, self.uploads):
            counts.clear()
        self.kernels = self.operations = 0
        self.peak = self.now

    def learn_layers(self, model: nn.Module, block: type[nn.Module]) -> None:
        """Take the blocks of a model, of this class, as its layers."""
        self.layers |= {id(part) for each in model.modules() if isinstance(each, block) for part in each.modules()}

    def wait(self, kind: str) -> None:
        """The host waits for the device."""
        place, inside = self._where()
        self.waits[f"{place} {kind}"] += 1
        if inside:
            self.in_layers[f"{place} {kind}"] += 1

    def copied(self, source: torch.Tensor, non_blocking: bool) -> None:
        """Host memory goes to the device. From plain memory more than `SMALL` bytes hold up the host in any case."""
        size = source.numel() * source.element_size()
        place, inside = self._where()
        self.uploads["number"] += 1
        self.uploads["bytes"] += size
        if not non_blocking or not (size <= SMALL or source.is_pinned()):
            self.copies[place] += 1
            if inside:
                self.in_layers[f"{place} copy to the device"] += 1

    def _where(self) -> tuple[str, bool]:
        """The package's innermost line, and whether it works for a layer.

        Autograd's thread runs no line of the package but those that it computes again.
        """
        place, inside = BACKWARD, False
        for frame in frames():
            code = frame.f_code
            ours = code.co_filename.startswith(PACKAGE)
            if ours and place == BACKWARD:
                place = f"sevila/{code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno}"
            inside |= id(frame.f_locals.get("self")) in self.layers or (ours and code.co_name == "cross_attention")
        return place, inside or place == BACKWARD

    # --- memory ---

    def holds(self, storage: Any) -> None:
        """A storage on the device, until nobody has it any more."""
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = -(-storage.nbytes() // BLOCK) * BLOCK
        self.now += self._live[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._live.pop(key)

    def counts(self) -> dict[str, Any]:
        """What was counted, as JSON takes it."""
        return {
            "waits": dict(self.waits),
            "in_layers": dict(self.in_layers),
            "copies": dict(self.copies),
            "uploads": dict(self.uploads),
            "kernels": self.kernels,
            "operations": self.operations,
            "peak": self.peak,
        }
