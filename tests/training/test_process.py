from __future__ import annotations

import io
import os
import random
import signal
import threading

import numpy as np
import pytest
import torch

from sevila.training.device import Interrupted, Sigterm, rng_state, seed_all, set_rng_state, still_rng


def draw() -> list[float]:
    numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()]
    return [*numbers, torch.rand(1).item(), torch.randn(1).item()]


def test_state_survives_a_file_that_cannot_run_code():
    draw()  # leaves a cached second normal number behind
    file = io.BytesIO()
    torch.save(rng_state(), file)
    expected = draw()
    seed_all(3)
    file.seek(0)
    set_rng_state(torch.load(file, weights_only=True))
    assert draw() == expected


def test_seed_all_and_large_seeds():
    seed_all(2**40 + 1)
    first = draw()
    seed_all(2**40 + 1)
    assert draw() == first
    seed_all(2)
    assert draw() != first


def test_a_negative_seed_is_a_seed_of_its_own():
    firsts = []
    for seed in (1, -1, -2):
        seed_all(seed)
        firsts.append([random.random(), np.random.rand(), torch.rand(1).item()])
    for drawn in zip(*firsts, strict=True):
        assert len(set(drawn)) == 3


def test_still_rng_also_after_an_error():
    seed_all(1)
    expected = draw()
    seed_all(1)
    try:
        with still_rng():
            draw()
            raise KeyError
    except KeyError:
        pass
    assert draw() == expected


def terminate_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_only_notes_the_signal_except_where_it_may_act_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with Sigterm() as sigterm:
        assert not sigterm.requested
        terminate_self()
        assert sigterm.requested
        with pytest.raises(Interrupted), sigterm.at_once():
            raise AssertionError("a request from before ends it at once")
    with Sigterm() as sigterm:
        with pytest.raises(Interrupted), sigterm.at_once():
            terminate_self()
            raise AssertionError("must not be reached")
        terminate_self()  # outside again: only noted
    assert signal.getsignal(signal.SIGTERM) == before


def test_outside_the_main_thread_it_does_nothing():
    seen = []

    def work():
        with Sigterm() as sigterm:
            seen.append(sigterm.requested)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False] and signal.getsignal(signal.SIGTERM) == before
