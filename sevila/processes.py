"""Several processes of a run: the first one decides, what each has made all have, and an error of one ends all.

Everything here goes from processor to processor (gloo) and waits for slow work as long as that takes. The devices' own
collectives (NCCL, with its default time-out) carry gradients and first weights only, each right after `meet`, so that
they never wait for a process that is late, or gone. A run of one process pays for none of it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup, Work
from torch.nn import functional

from sevila.errors import MachineError, UserError, for_others

# Every time-out of several processes but the device's own: of a collective, and how an error goes round.
PATIENCE = timedelta(hours=12)  # in a collective here: shares of labels or of an evaluation differ in length
NOTICE = 1.0  # seconds from look to look whether another process has failed
FAREWELL = 5.0  # seconds that a failing process waits for the others to have heard why
LEAVE = 30.0  # seconds that a process has to leave by itself, before it is ended where it stands

GONE = (
    "another process of this run is gone: it was killed, or its machine failed; look at what that one said; "
    "a training goes on from its last checkpoint with resume=true"
)


class Ended(BaseException):
    """Another process has failed. No Exception, so that nobody swallows it; `together` makes a UserError of it."""


def several() -> bool:
    """Whether this process is one of several that work together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if several() else (0, 1)


def part() -> None:
    """Leave the process group before Python ends: its threads, still at work then, would abort the process."""
    if distributed.is_initialized():
        # one of them may wait for a process that is stuck: then this one ends all the same, with the code 1
        # (by a thread of C's: from 3.12 on Python begins none of its own at its end)
        with open(os.devnull, "w") as nowhere:
            faulthandler.dump_traceback_later(LEAVE, exit=True, file=nowhere)
            distributed.destroy_process_group()
            faulthandler.cancel_dump_traceback_later()


# -- collectives: all processes call them at the same place, or they do not return ---


def meet(asked: bool = False) -> bool:
    """Wait for all processes; whether any of them asked, for all."""
    if not several():
        return asked
    votes = torch.tensor([int(asked)])
    _wait(distributed.all_reduce(votes, group=_host(), async_op=True))
    return bool(votes[0])


def from_main(make: Callable[[], Any]) -> Any:
    """What the first process makes, for all of them, as JSON carries it. Its error is everybody's (`together`)."""
    if not several():
        return make()
    main = distributed.get_rank() == 0
    data = _as_tensor(json.dumps(make()).encode()) if main else torch.empty(0, dtype=torch.uint8)
    size = torch.tensor([len(data)])
    _wait(distributed.broadcast(size, 0, group=_host(), async_op=True))
    if not main:
        data = data.new_empty(int(size))
    _wait(distributed.broadcast(data, 0, group=_host(), async_op=True))
    return json.loads(data.numpy().tobytes())


def gather_bytes(data: bytes) -> list[bytes]:
    """The bytes of every process, for all of them, in the order of the processes; nothing is pickled."""
    if not several():
        return [data]
    own, (_, processes) = _as_tensor(data), rank_and_size()
    sizes = [torch.empty(1, dtype=torch.long) for _ in range(processes)]
    _wait(distributed.all_gather(sizes, torch.tensor([len(own)]), group=_host(), async_op=True))
    longest = max(int(size) for size in sizes)
    rows = [own.new_empty(longest) for _ in range(processes)]
    padded = functional.pad(own, (0, longest - len(own)))
    _wait(distributed.all_gather(rows, padded, group=_host(), async_op=True))
    return [row[: int(size)].numpy().tobytes() for row, size in zip(rows, sizes, strict=True)]


def check_same(values: Mapping[str, Any]) -> None:
    """UserError, in all processes, that names the first value, as JSON carries it, in which they differ."""
    first, *others = [json.loads(data) for data in gather_bytes(json.dumps(dict(values)).encode())]
    for number, other in enumerate(others, start=1):
        for key in {**first, **other}:
            here, there = first.get(key), other.get(key)
            if here != there:
                raise UserError(
                    f"the processes differ in {key}: {here} in number 0, {there} in number {number}; "
                    "start all of them with the same words and the same files"
                )


def _as_tensor(data: bytes) -> Tensor:
    """uint8 [bytes]"""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


_group: ProcessGroup | None = None  # of the processors; made at its first use, which is a collective itself


def _host() -> ProcessGroup:
    global _group
    if _group is None:
        _group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    return _group


def _wait(work: Work) -> None:
    """Until a collective is done; open to signals, and to what another process tells meanwhile."""
    pause = 1e-4
    while not work.is_completed():
        if _alarm is not None and _alarm.fault:
            raise Ended
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    try:
        work.wait()
    except RuntimeError as error:  # the connection is closed
        raise MachineError(GONE) from error


# -- the end of all is common ---


_alarm: _Alarm | None = None
_runs = 0  # of this process, as of the others: a sweep has several


@contextmanager
def together() -> Iterator[None]:
    """A run: whatever ends it in one process ends it in all, and none leaves before all are done.

    What one raises, wherever that is, the others raise as a UserError with its message, in a few seconds and whatever
    they are doing; one that is stuck outside of Python is ended where it stands after LEAVE seconds. A process that was
    killed tells nothing: the others notice in their next collective (MachineError).
    """
    global _alarm, _group, _runs
    if not several():
        yield
        return
    _group, _runs = None, _runs + 1  # a run before this one may have left its group in the middle of something
    _host()  # now, while all are here: to make it is a collective that cannot be interrupted
    _alarm = _Alarm(_runs)
    try:
        yield
        meet()  # the first process may still have been writing
    except SystemExit:  # after SIGTERM: agreed upon by all
        raise
    except BaseException as error:
        _alarm.stop()
        told = _alarm.tell(error)
        if told is not None:
            raise told from None
        raise
    finally:
        _alarm.stop()
        _alarm = None


class _Alarm:
    """The word of a process that failed, kept in the store by which the processes have found each other.

    A thread looks for it. A signal that nobody else uses takes the main thread out of whatever it does.
    """

    def __init__(self, run: int) -> None:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(address, port, is_master=False, wait_for_workers=False)
        self.store = distributed.PrefixStore(f"sevila/{attempt}/{run}", store)
        self.fault = ""
        self._main = threading.current_thread() is threading.main_thread()
        self._before = signal.signal(signal.SIGURG, self._interrupt) if self._main else None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No look and no signal after this."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join(FAREWELL)
            if self._main:
                signal.signal(signal.SIGURG, self._before)

    def tell(self, error: BaseException) -> UserError | None:
        """Let the others know of an error, or hear from them; a UserError where they have said more than `error`."""
        gone = isinstance(error, MachineError) and str(error) == GONE
        with suppress(RuntimeError):  # the store is gone, and those who could be told with it
            if gone and self.store.check(["fault"]):
                self.fault = self.store.get("fault").decode()
            if not self.fault:
                said = for_others(error) if isinstance(error, Exception) else "another process was interrupted"
                self.store.compare_set("fault", "", said)
            # whoever keeps the store must not leave before the others have heard
            self.store.add("left", 1)
            until = time.monotonic() + FAREWELL
            while self.store.add("left", 0) < distributed.get_world_size() and time.monotonic() < until:
                time.sleep(0.05)
        return UserError(self.fault) if self.fault and (isinstance(error, Ended) or gone) else None

    def _watch(self) -> None:
        while not self._stopped.wait(NOTICE):
            try:
                if not self.store.check(["fault"]):
                    continue
                self.fault = self.store.get("fault").decode()
            except RuntimeError:  # whoever kept the store has gone: the next collective says so
                return
            if self._main:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)
            if not self._stopped.wait(LEAVE):
                print(f"sevila: error: {self.fault}", file=sys.stderr, flush=True)
                os._exit(UserError.exit_code)
            return

    def _interrupt(self, *_: object) -> None:
        if not self._stopped.is_set():
            raise Ended
