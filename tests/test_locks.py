"""One run in a folder; the lock goes with its process, and what forked off does not keep it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sevila.locks import LOCK, FolderLock, Held

HOLD = "import sys; from pathlib import Path; from sevila.locks import FolderLock; l = FolderLock(); "
HOLD += "l.acquire(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"


def holder(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_it_names_its_holder_and_goes_with_it(tmp_path: Path) -> None:
    lock = FolderLock()
    with holder(tmp_path) as process:
        with pytest.raises(Held, match=rf"process {process.pid} on \S+, since 20\d\d-"):
            lock.acquire(tmp_path, patience=0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    lock.acquire(tmp_path, patience=0)
    assert lock.found  # the killed one left the file
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_process_does_not_keep_it(tmp_path: Path) -> None:
    lock, other = FolderLock(), FolderLock()
    lock.acquire(tmp_path)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:  # such as a loader's worker, which lives a little longer than its parent
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    lock.release()
    other.acquire(tmp_path, patience=0)
    os.write(go[1], b"x")
    os.waitpid(child, 0)
    assert other.intact()
    other.release()


def test_shared_by_many_until_one_is_alone(tmp_path: Path) -> None:
    first, second = FolderLock(), FolderLock()
    first.acquire(tmp_path, shared=True)
    second.acquire(tmp_path, shared=True)
    assert not first.found and second.found and not second.alone()
    first.release()
    assert (tmp_path / LOCK).exists() and second.alone()
    second.release()
    assert not (tmp_path / LOCK).exists()


def test_it_notices_that_its_folder_is_another(tmp_path: Path) -> None:
    lock = FolderLock()
    assert lock.intact()  # nothing is claimed
    lock.acquire(tmp_path)
    assert lock.intact()
    (tmp_path / LOCK).unlink()
    assert not lock.intact()
    (tmp_path / LOCK).write_text("another's")
    assert not lock.intact()
    lock.release()
    assert (tmp_path / LOCK).read_text() == "another's"


def test_a_file_that_its_holder_removes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking: the lock would be one on no file."""
    plain, done = fcntl.flock, []

    def removed(handle: int, kind: int) -> None:
        if not done:
            done.append((tmp_path / LOCK).unlink())
        plain(handle, kind)

    monkeypatch.setattr(fcntl, "flock", removed)
    lock = FolderLock()
    lock.acquire(tmp_path)
    assert done and lock.intact()
    lock.release()


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = FolderLock()
    lock.acquire(tmp_path)
    assert capsys.readouterr().err == (
        f"sevila: warning: {tmp_path}: this file system has no locks (No locks available); "
        "see to it that one run at a time uses this folder\n"
    )
    assert lock.intact()
    lock.release()
    assert list(tmp_path.iterdir()) == []
