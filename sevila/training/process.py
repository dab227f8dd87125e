"""What a training does to its process: random generators seeded, taken and put back; SIGTERM turned into a request."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import torch

# --- random generators ---


def seed_all(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators (all devices)."""
    random.seed(seed if seed >= 0 else str(seed))  # Python seeds -n as it seeds n
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """State of the generators of this process, in types that torch.load(weights_only=True) reads."""
    version, numbers, gauss = random.getstate()
    legacy: Any = np.random.get_state()
    kind, keys, position, has_gauss, cached = legacy
    state: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [
            kind,
            torch.from_numpy(keys.astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` gave. A CUDA state is left out where there is no GPU."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def still_rng() -> Iterator[None]:
    """Whatever runs inside leaves the global generators as it found them."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


# --- SIGTERM ---


class Stopped(SystemExit):
    """The run was asked to stop and has saved itself; leaves the process with code 143 (128 + SIGTERM)."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interrupted(BaseException):
    """Raised by SIGTERM inside `Sigterm.at_once`. No Exception, so that nobody swallows it."""


class Sigterm:
    """While entered, SIGTERM only sets `requested`. Does nothing outside the main thread."""

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> Sigterm:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._handle)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._previous)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, SIGTERM raises `Interrupted`: for long work that changes nothing, such as evaluation."""
        self._at_once = True
        try:
            if self.requested:
                raise Interrupted
            yield
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self._at_once:
            raise Interrupted
