"""On a GPU: what travels between its memory and the host's arrives, without anybody waiting for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sevila.checkpoints import backbone as backbones
from sevila.data.loading import Loader
from sevila.data.sampling import PLAIN
from sevila.data.store import Misses, Place, Store
from sevila.model.pixels import normalize
from sevila.transfer import download, upload

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")


def test_normalised_pixels_are_the_cpus_to_the_bit() -> None:
    every = torch.arange(256).to(torch.uint8).expand(2, 3, 256).unflatten(2, (16, 16))
    assert torch.equal(normalize(every.to(GPU)).cpu(), normalize(every))


def test_pictures_are_encoded_as_normalised_ones_are() -> None:
    backbone = backbones.load(device="cuda")
    pictures = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(backbone.encode(pictures), backbone.encode(normalize(pictures)))


@pytest.mark.parametrize("pinned", [False, True])
def test_nothing_is_lost_on_the_way_there_and_back(pinned: bool) -> None:
    """Under a queue of work that would still be running if somebody read too early."""
    numbers = torch.arange(2**22, dtype=torch.float32)
    busy = torch.randn(4096, 4096, device=GPU)
    for _ in range(20):
        busy = busy @ busy / 64
    there = upload(numbers.pin_memory() if pinned else numbers, GPU)
    back = download(there + 1)
    assert torch.equal(back(), numbers + 1)


def test_the_store_holds_what_the_gpu_made(tmp_path: Path) -> None:
    def store() -> Store:
        return Store(tmp_path / "store", {"tower": "random"}, torch.bfloat16)

    place, kept = Place("0123456789abcdef", PLAIN), store()
    patches = torch.randn(32, 257, 64, device=GPU).bfloat16()
    settled = kept.write([Misses(place, tuple(range(32)), (0.0,) * 32)], patches.clone())
    kept.flush()
    assert settled.device.type == "cuda" and torch.equal(settled, patches)
    found = store().read(place, list(range(32))).patches
    assert torch.equal(found, patches.cpu())


class Numbered:
    """Items that are a tensor each."""

    store = None

    def load(self, key: int) -> Item:
        return Item(torch.full((3, 4), key))


class Item:
    stored = None

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def pin_memory(self) -> Item:
        return Item(self.tensor.pin_memory())


@pytest.mark.parametrize("workers", [0, 2])
def test_loaded_tensors_are_page_locked_in_every_pass(workers: int) -> None:
    with Loader(Numbered(), workers, pin=True) as loader:
        for _ in range(3):
            items = list(loader([3, 1, 2]))
            assert [int(item.tensor[0, 0]) for item in items] == [3, 1, 2]
            assert all(item.tensor.is_pinned() for item in items)
