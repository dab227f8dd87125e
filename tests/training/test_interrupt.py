from __future__ import annotations

import os
import signal
import threading

import pytest

from sevila.training.interrupt import Interrupted, Sigterm


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
