"""What the machine refuses is one line that names the path; a fault of the program is none."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from sevila.errors import MachineError, UserError, machine_error
from sevila.files import atomic_path


class Full(io.RawIOBase):
    """A file on a disk that is full."""

    def write(self, _: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_under_every_writer(tmp_path: Path) -> None:
    def tensors(_: Path) -> None:
        torch.save({"a": torch.zeros(100_000)}, Full())

    def rust(_: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def text(_: Path) -> None:
        Full().write(b"x")

    for write in (tensors, rust, text):
        with pytest.raises(OSError) as raised, atomic_path(tmp_path / "result.pt") as temporary:
            write(temporary)
        told = machine_error(raised.value)
        assert told.exit_code == 2
        assert str(told) == f"{tmp_path}/result.pt: No space left on device; make room or raise the limit", write
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (MemoryError(), "Cannot allocate memory; give it more memory, or lower "),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 4 bytes"),
            "Cannot allocate memory; ",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "Cannot allocate memory; "),
        (OSError(errno.EMFILE, "Too many open files", "v.mp4"), "v.mp4: Too many open files; raise the limit (ulimit"),
        (ImportError("libx.so: cannot open: Too many open files"), "Too many open files; raise the limit"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"), "a/b: No such file or directory"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "DataLoader worker (pid 7) is killed by signal: Killed: perhaps memory was short",
        ),
    ],
)
def test_a_line(error: Exception, start: str) -> None:
    told = machine_error(error)
    assert type(told) is UserError and str(told).startswith(start) and "\n" not in str(told)


def test_a_failing_disk_is_no_users_fault() -> None:
    told = machine_error(OSError(errno.EIO, "Input/output error", "x"))
    assert type(told) is MachineError and told.exit_code == 1


@pytest.mark.parametrize("error", [None, KeyError("a"), RuntimeError("shapes"), BrokenPipeError(32, "x"), OSError("x")])
def test_other_faults_are_none_of_the_machines(error: Exception | None) -> None:
    assert machine_error(error) is None


def test_no_message_of_ours_is_taken_for_another() -> None:
    assert machine_error(UserError("said (os error 28)")) is None
