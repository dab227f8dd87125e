"""Device and precision of a run, through accelerate; random generators and SIGTERM of each process."""

from __future__ import annotations

import atexit
import io
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from sevila.errors import UserError
from sevila.processes import gather_bytes, part, several

_SETTINGS = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_")
_TRUE = ("1", "true", "yes", "y", "t", "on")  # as accelerate reads them
PRECISIONS = {"fp32": "no", "bf16": "bf16", "published": "bf16", "fp64": "no"}  # ours -> accelerate's


def make_accelerator(device: str = "auto", precision: str = "fp32") -> Accelerator:
    """The accelerator for `device` ("auto", "cpu", "cuda", "cuda:1", ...) and `precision` ("fp32", "bf16", ...).

    Under `accelerate launch` or `torchrun` every process gets its own GPU. A process that is alone where several were
    asked for says so. May be called again with other values. Of accelerate's own variables only ACCELERATE_USE_CPU
    counts, for "auto" (`accelerate launch --cpu`): the others, left over from another project, would change numbers.
    Raises UserError for values it does not know and for a GPU that is not there.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision}: must be one of {', '.join(PRECISIONS)}")
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise UserError(f"device={device}: must be auto, cpu, cuda or cuda:N")
    if kind == "cuda" and torch.cuda.device_count() <= int(number or 0):
        raise UserError(f"device={device}: this machine has {torch.cuda.device_count()} CUDA GPUs; use device=cpu")
    # accelerate keeps its settings for the whole process; several runs in one process may differ in them
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    cpu = kind == "cpu" or (kind == "auto" and on_processors())
    with _hidden_settings():
        accelerator = Accelerator(cpu=cpu, mixed_precision=PRECISIONS[precision])
    if torch.distributed.is_initialized():
        atexit.register(part)  # registering it again does no harm: it parts once
    if accelerator.num_processes == 1:
        _warn_if_alone()
    if number and accelerator.num_processes > 1:
        raise UserError(f"device={device}: several processes have a GPU each; use device=cuda")
    if number:
        torch.cuda.set_device(int(number))
        accelerator.state.device = torch.device(device)
    return accelerator


def on_processors() -> bool:
    """Whether "auto" is the processors: told so, or no GPU for torchrun's processes, which accelerate parts else."""
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() in _TRUE:
        return True
    return "LOCAL_RANK" in os.environ and not torch.cuda.is_available()


@contextmanager
def _hidden_settings() -> Iterator[None]:
    """Without the variables that accelerate takes settings from: some of them win over its own arguments.

    ACCELERATE_GRADIENT_ACCUMULATION_STEPS divides every loss, ACCELERATE_DYNAMO_BACKEND lets CUDA round to TF32,
    ACCELERATE_USE_{DEEPSPEED,FSDP,MEGATRON_LM,PARALLELISM_CONFIG} bring plugins, ACCELERATE_TORCH_DEVICE a device.
    """
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_SETTINGS)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _warn_if_alone() -> None:
    """Say on stderr that this process works alone though its environment speaks of several.

    `accelerate launch --cpu --num_processes N` starts one process. It does not tell it N; but only for N > 1 it sets
    MASTER_PORT, and then without the WORLD_SIZE that torchrun sets.
    """
    asked = ""
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if os.environ.get(name, "").isdecimal() and int(os.environ[name]) > 1:
            asked = f"{name}={os.environ[name]}"
    if "ACCELERATE_USE_CPU" in os.environ and "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
        asked = "accelerate launch --num_processes"
    if asked:
        print(
            f"sevila: warning: several processes were asked for ({asked}), but this one is alone; "
            "torchrun --nproc_per_node N -m sevila.train ... starts N that work together",
            file=sys.stderr,
        )


# -- a training's process: random generators seeded, taken and put back; SIGTERM turned into a request ---


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


def rng_states() -> list[dict[str, Any]]:
    """The same of every process, for all of them."""
    own = rng_state()
    if not several():
        return [own]
    buffer = io.BytesIO()
    torch.save(own, buffer)
    return [torch.load(io.BytesIO(data), weights_only=True) for data in gather_bytes(buffer.getvalue())]


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
