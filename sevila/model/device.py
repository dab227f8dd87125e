"""Host and device at work together: what stays on the device, what is looked up there, what comes back in one wait.

A device works behind the host, which must not wait for it before it has all its work: so the layers ask the host for
nothing, and results come back together.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch import Tensor

from sevila.transfer import upload


class Constants:
    """What is made of frozen tables alone, such as the vectors of "Frame: ": made once, and kept where the table is.

    It is made again when the table has moved, has another dtype, was replaced or was written to (but through `.data`,
    which torch itself does not notice). It holds no gradients, and copies of a model begin without any.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[weakref.ref[torch.UntypedStorage], int, Tensor]] = {}

    def __reduce__(self) -> tuple[type[Constants], tuple[()]]:
        return type(self), ()  # copied or pickled: empty

    def of(self, table: Tensor, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, of any shape. `key` tells it from all else that is kept."""
        if table.is_inference():  # torch does not count who writes to it
            return make()
        memory, written = table.untyped_storage(), table._version
        kept = self._kept.get(key)
        if kept is None or kept[0]() is not memory or kept[1] != written:
            with torch.inference_mode(False), torch.no_grad():  # a training may come after
                made = make()
                # a view would keep the whole table in memory when its model has moved or gone
                made = made.clone() if made.untyped_storage() is memory else made
            kept = self._kept[key] = weakref.ref(memory), written, made
        return kept[2]


def uploaded(parts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, ...]:
    """Indices, on the device, of each part by itself: int64 [its length]. All go there in one copy."""
    together = torch.tensor([index for part in parts for index in part], dtype=torch.int64)
    return upload(together, device).split([len(part) for part in parts])


def taken(rows: Tensor, parts: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """The rows [N, ...] at the places of each part: [its length, ...]. Nothing goes to the device for neighbours."""
    scattered = [part for part in parts if not _neighbours(part)]
    there = iter(uploaded(scattered, rows.device) if scattered else ())
    for part in parts:
        yield rows[part[0] : part[-1] + 1] if _neighbours(part) else rows[next(there)]


def _neighbours(part: Sequence[int]) -> bool:
    return all(index == first for first, index in enumerate(part, part[0]))


def read_back(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one dtype, of any shapes, on the host, which waits once for them all."""
    if not tensors:
        return []
    together = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    parts = together.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
