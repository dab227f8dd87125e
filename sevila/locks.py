"""Locks on folders, held by a file in them: one run in a run folder, and whether anybody uses a store.

They are flock(2) locks: the system takes them back when their process ends, however it ends. On NFS Linux makes them
byte-range locks on the server, so they hold between machines too, unless it is mounted with nolock or local_lock. Where
a file system refuses them (ENOLCK and the like), that is said in a line and nothing is locked.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import socket
import sys
import time
import weakref
from contextlib import suppress
from datetime import datetime
from pathlib import Path

LOCK = ".lock"  # the file's name
PATIENCE = 1.0  # seconds: a process that is ending may still hold it
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Held(Exception):
    """Another process has the lock; says which."""


class FolderLock:
    """The file .lock in a folder, and this process's claim on it. Not held until `acquire`."""

    path: Path  # since `acquire`

    def __init__(self) -> None:
        self.found = False
        self._handle: int | None = None

    def __reduce__(self) -> tuple[type[FolderLock], tuple[()]]:
        """Another process has no claim."""
        return FolderLock, ()

    def acquire(self, folder: Path, shared: bool = False, patience: float = PATIENCE) -> None:
        """Claim a folder that is there; Held after `patience` seconds, OSError where the file cannot be made.

        shared   together with others that share it
        After that `found` says whether the file lay there before, as a process leaves it that was killed.
        """
        self.path = folder / LOCK
        self.found = self.path.exists()
        kind, until = fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + patience
        while self._handle is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.read(handle, 200).decode(errors="replace").strip()
                os.close(handle)
                if error.errno in NO_LOCKS:
                    return self._go_without(error)
                if not isinstance(error, BlockingIOError):
                    raise
                if time.monotonic() > until:
                    raise Held(holder or "another process") from None
                time.sleep(0.05)
            else:
                if _same(handle, self.path):
                    self._handle = handle
                else:
                    os.close(handle)  # its holder removed the file in between
        _HELD.add(self)
        if not shared:
            os.ftruncate(self._handle, 0)
            os.write(self._handle, _about_me().encode())

    def _go_without(self, error: OSError) -> None:
        """On a file system that has no locks."""
        print(
            f"sevila: warning: {self.path.parent}: this file system has no locks ({error.strerror}); "
            "see to it that one run at a time uses this folder",
            file=sys.stderr,
        )
        self.path.unlink(missing_ok=True)

    def alone(self) -> bool:
        """Whether nobody else shares the lock; if so, it is this process's own until `downgrade`."""
        if self._turn(fcntl.LOCK_EX):
            return True
        self.downgrade()  # a refused turn has lost the share too
        return False

    def downgrade(self) -> None:
        """Let others share it again."""
        self._turn(fcntl.LOCK_SH)

    def _turn(self, kind: int) -> bool:
        if self._handle is None:
            return False
        try:
            fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def intact(self) -> bool:
        """False where the file is gone from the folder or was replaced: so is the folder, then."""
        return self._handle is None or _same(self._handle, self.path)

    def release(self) -> None:
        """Give it back; the file goes where nobody else has it."""
        if self._handle is None:
            return
        if self.alone() and _same(self._handle, self.path):
            self.path.unlink(missing_ok=True)
        self._drop()

    def _drop(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _about_me() -> str:
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()}, since {started}\n"


_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget() -> None:
    """In a forked process, such as a loader's worker: it must not keep the lock when its parent is gone."""
    for lock in list(_HELD):
        lock._drop()


def _release_all() -> None:
    for lock in list(_HELD):
        with suppress(OSError):
            lock.release()


os.register_at_fork(after_in_child=_forget)
atexit.register(_release_all)
