"""Deliberate faults, each of a kind of its own, as somebody might bring them in; the counts must show every one.

Legal on CUDA, so no faults: a tensor of the host without dimensions beside one of the device, and a mask of the host as
index (which is copied).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from sevila.checkpoints import heads
from sevila.data import store
from sevila.model import backbone, language, pixels
from sevila.model.backbone import Backbone
from sevila.model.head import Head
from sevila.model.sevila import Answerer
from sevila.tasks.pretrain import PretrainTask
from sevila.training import loop

Plant = Callable[[Callable[..., Any]], Callable[..., Any]]  # a function of the library to the same with a fault

MIXED = "on the same device|are the host's"


@dataclass(frozen=True)
class Fault:
    """The path that must show it, and whose function of what name is replaced by one with the fault.

    error   what the path then fails with, a regular expression; empty where it is the counts that show it
    """

    path: str
    owner: Any
    name: str
    plant: Plant
    error: str = ""

    @contextmanager
    def planted(self) -> Iterator[None]:
        with mock.patch.object(self.owner, self.name, self.plant(getattr(self.owner, self.name))):
            yield


def before(look: Callable[..., None]) -> Plant:
    """The function, once `look` has had its arguments."""

    def plant(function: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*args: Any, **options: Any) -> Any:
            look(*args, **options)
            return function(*args, **options)

        return faulty

    return plant


def after(change: Callable[[Any], Any]) -> Plant:
    """The function, and `change` of what it gives."""

    def plant(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: change(function(*args, **options))

    return plant


# -- the faults ---


def ids_stay(upload: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Token ids are not brought to the device."""
    return lambda tensor, device: tensor if tensor.dtype == torch.int64 else upload(tensor, device)


def labels_stay(cross_entropy: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The labels of the loss are the host's."""
    return lambda logits, labels, **options: cross_entropy(
        logits, torch.ones(labels.shape, dtype=torch.int64), **options
    )


def moments_of_the_host(adamw: Callable[..., Any]) -> Callable[..., Any]:
    """AdamW goes on with a state that was read onto the host."""

    def made(head: Any, *args: Any) -> Any:
        optimizer = adamw(head, *args)
        for parameter in head.parameters():
            moments = {name: torch.zeros(parameter.shape) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {"step": torch.tensor(1.0), **moments}
        return optimizer

    return made


def mixed_precision(logits: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """States in float32 meet the table in bfloat16."""
    return lambda self, states, ids=None: logits(self, states.float(), ids)


def read_by_numpy(encode: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Patches go through numpy."""
    return lambda self, frames: torch.from_numpy(encode(self, frames).float().numpy())


def cast_first(upload: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Not page-locked: `non_blocking` has no effect."""
    return lambda tensor, device: tensor.clone().to(device, non_blocking=True)


def truth_of_a_mask(encoder: Any, embeds: Tensor, mask: Any) -> None:
    if not torch.ones(embeds.shape[:2], device=embeds.device).bool().all():
        raise ValueError("padding")


def a_row_at_a_time(logits: Tensor) -> Tensor:
    for row in logits:
        row.tolist()
    return logits


def chosen_by_mask(soft: Tensor) -> Tensor:
    return soft[soft.isfinite().flatten(1).all(1)]


def counted(soft: Tensor) -> Tensor:
    soft.flatten(1).isnan().any(1).nonzero()
    return soft


def read_early(found: tuple[Tensor, dict[str, float]]) -> tuple[Tensor, dict[str, float]]:
    return found[0], {**found[1], "again": float(found[0].detach())}


def hooked(head: Head) -> Head:
    """The gradient's norm is looked at layer by layer, in the backward pass."""
    for parameter in head.parameters():
        parameter.requires_grad_(True).register_hook(read)
    return head


def read(gradient: Tensor) -> None:
    gradient.norm().item()


def waited_for(download: Callable[..., Any]) -> Callable[..., Any]:
    def faulty(patches: Tensor) -> Callable[[], Tensor]:
        here = patches.cpu()
        return lambda: here

    return faulty


FAULTS: dict[str, Fault] = {
    # tensors of host and device, of two precisions
    "token ids stay on the host": Fault("moments", backbone, "upload", ids_stay, MIXED),
    "labels stay on the host": Fault("pretrain", F, "cross_entropy", labels_stay, MIXED),
    "a head stays on the host": Fault("moments", heads, "load_head", after(lambda head: head.cpu()), MIXED),
    "an optimiser's state stays on the host": Fault("pretrain", loop, "adamw", moments_of_the_host, MIXED),
    "float32 meets bfloat16": Fault("moments", Backbone, "logits", mixed_precision, "dtypes differ"),
    "patches go through numpy": Fault("moments", Backbone, "encode", read_by_numpy, "numpy"),
    # waits
    "a number read in every layer": Fault(
        "moments", language.FusedNorm, "forward", before(lambda norm, states: states.amax().item())
    ),
    "a number read in the backward pass": Fault("pretrain", heads, "load_head", after(hooked)),
    "a mask's truth asked of the device": Fault("moments", backbone, "run_encoder", before(truth_of_a_mask)),
    "a row read at a time": Fault("answer_direct", Answerer, "option_logits", after(a_row_at_a_time)),
    "a mask of the device as index": Fault("moments", Head, "forward", after(chosen_by_mask)),
    "places looked for on the device": Fault("moments", Head, "forward", after(counted)),
    "the loss read early": Fault("pretrain", PretrainTask, "loss", after(read_early)),
    "a clock's synchronize left in": Fault(
        "moments", Backbone, "encode", before(lambda *args: torch.cuda.synchronize())
    ),
    "the store's copy waited for": Fault("store", store, "download", waited_for),
    # copies
    "uploads that block": Fault("moments", backbone, "upload", lambda _: lambda tensor, device: tensor.to(device)),
    "pictures cast on the host, into plain memory": Fault("moments", backbone, "upload", cast_first),
    "a constant made on the host in every call": Fault(
        "moments", pixels, "upload", lambda _: lambda tensor, device: torch.tensor(tensor.tolist(), device=device)
    ),
    "a list as index of the device's": Fault(
        "moments", Head, "forward", after(lambda soft: soft[list(range(len(soft)))])
    ),
    "the host's numbers written into the device's": Fault(
        "moments", Head, "forward", after(lambda soft: soft.copy_(torch.ones(soft.shape, dtype=soft.dtype)))
    ),
}
