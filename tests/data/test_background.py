"""Files written in between: in order, never more than may wait, and no error lost."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
from pathlib import Path

import pytest

from sevila.data.background import BackgroundWriter


class Gate:
    """Jobs that note their names, once the gate is open."""

    def __init__(self) -> None:
        self.open, self.done = threading.Event(), []

    def job(self, name: str):
        def run() -> None:
            assert self.open.wait(20) and threading.current_thread() is not threading.main_thread()
            self.done.append(name)

        return run


def file(name: str) -> Path:
    return Path("/store") / name


def test_the_caller_goes_on_and_files_come_in_order() -> None:
    writer, gate = BackgroundWriter(), Gate()
    for name in ("a/1", "b/1", "a/2", "c/1"):
        writer.write(file(name), 10, gate.job(name))
    assert gate.done == [] and writer.writes(file("a/2")) and not writer.writes(file("a/3"))
    gate.open.set()
    writer.wait(file("a"))
    assert gate.done[:3] == ["a/1", "b/1", "a/2"] and not writer.writes(file("a/2"))
    writer.flush()
    assert gate.done == ["a/1", "b/1", "a/2", "c/1"]


def test_a_folder_that_nobody_writes_to_is_not_waited_for() -> None:
    writer, gate = BackgroundWriter(), Gate()
    writer.write(file("a/1"), 10, gate.job("a/1"))
    writer.wait(file("b"))
    assert gate.done == []
    gate.open.set()
    writer.flush()


def test_no_more_waits_than_may() -> None:
    writer, gate = BackgroundWriter(most=100), Gate()
    threading.Timer(0.2, gate.open.set).start()
    writer.write(file("a"), 60, gate.job("a"))
    writer.write(file("b"), 40, gate.job("b"))
    assert gate.done == []  # 100 may wait
    writer.write(file("c"), 1, gate.job("c"))
    assert gate.done[:1] == ["a"]  # 101 may not
    writer.write(file("d"), 1000, gate.job("d"))  # larger than all that may wait: it waits alone
    assert gate.done[:3] == ["a", "b", "c"]
    writer.flush()


def test_an_error_is_raised_once_by_the_next_call_and_the_others_are_written() -> None:
    writer, done = BackgroundWriter(), []

    def fail() -> None:
        raise ValueError("no such luck")

    writer.write(file("a"), 1, fail)
    with pytest.raises(ValueError, match="no such luck"):
        writer.wait(file("a").parent)
    writer.write(file("c"), 1, lambda: done.append("c"))
    writer.write(file("d"), 1, fail)
    writer.write(file("e"), 1, lambda: done.append("e"))
    with pytest.raises(ValueError, match="no such luck"):
        writer.flush()
    writer.flush()
    assert done == ["c", "e"]


def test_the_next_file_brings_the_error_too() -> None:
    writer, failed = BackgroundWriter(), threading.Event()

    def fail() -> None:
        failed.set()
        raise ValueError("no such luck")

    writer.write(file("a"), 1, fail)
    assert failed.wait(20)
    with pytest.raises(ValueError, match="no such luck"):
        while True:  # until the thread has said so
            writer.write(file("b"), 1, lambda: None)
    writer.flush()


def test_a_signal_while_it_waits_loses_nothing() -> None:
    writer, gate = BackgroundWriter(), Gate()
    writer.write(file("a"), 1, gate.job("a"))
    before = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert writer.writes(file("a"))
    gate.open.set()
    writer.flush()
    assert gate.done == ["a"]


def test_there_is_a_thread_only_while_it_writes() -> None:
    before = threading.active_count()
    writer = BackgroundWriter()
    assert threading.active_count() == before
    for _ in range(2):
        writer.write(file("a"), 1, lambda: None)
        assert threading.active_count() == before + 1
        writer.flush()
        assert threading.active_count() == before


def _forked(writer: BackgroundWriter) -> None:
    assert not writer.writes(file("a"))
    writer.wait(file("a").parent)
    writer.flush()
    writer.write(file("b"), 1, lambda: None)  # with a thread of its own
    writer.flush()


def test_a_forked_process_and_a_copy_have_nothing_to_write() -> None:
    writer, gate = BackgroundWriter(7), Gate()
    writer.write(file("a"), 1, gate.job("a"))
    process = multiprocessing.get_context("fork").Process(target=_forked, args=(writer,))
    process.start()
    process.join(20)
    assert process.exitcode == 0
    copy = pickle.loads(pickle.dumps(writer))
    assert copy.most == 7 and not copy.writes(file("a"))
    gate.open.set()
    writer.flush()
