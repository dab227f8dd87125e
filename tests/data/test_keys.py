"""Orders of items: a function of seed and epoch, the same on every machine."""

from __future__ import annotations

from sevila.data.sampling import derived_seed, epoch_keys, ordered_keys


def test_the_order_follows_from_seed_and_epoch() -> None:
    keys = epoch_keys(100, seed=3, epoch=2)
    assert {epoch for epoch, _ in keys} == {2}
    assert sorted(index for _, index in keys) == list(range(100))
    assert keys == epoch_keys(100, seed=3, epoch=2)
    orders = {tuple(i for _, i in epoch_keys(100, seed, epoch)) for seed in (3, 4) for epoch in (0, 1)}
    assert len(orders) == 4
    assert ordered_keys(3) == [(0, 0), (0, 1), (0, 2)]


def test_seeds_do_not_depend_on_the_machine() -> None:
    assert [index for _, index in epoch_keys(8, seed=0, epoch=0)] == [5, 2, 4, 7, 6, 3, 1, 0]
    seeds = [derived_seed(*words) for words in (("crop", 0, 0, 0), ("frames", 0, 0, 0), ("crop", 0, 0, 1))]
    assert len(set(seeds)) == 3 and all(0 <= seed < 2**63 for seed in seeds)
