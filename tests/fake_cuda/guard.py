"""Compile and load the guard. Knows no torch: the guard must be there before torch asks for its CUDA hooks."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")


class Unavailable(Exception):
    """Why there can be no guard here, in a line."""


def torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise Unavailable("no torch")
    return Path(spec.origin).parent


def library(folder: Path) -> Path:
    """The compiled guard in a folder; compiled now where it is not there yet, or of another source or torch.

    Raises Unavailable where there is no compiler, where torch brings no headers, and for a CUDA build of torch, which
    has hooks of its own.
    """
    torch = torch_folder()
    version = importlib.metadata.version("torch")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise Unavailable("no C++ compiler (g++) for the guard of the fake CUDA device")
    if not (torch / "include" / "ATen" / "detail" / "CUDAHooksInterface.h").is_file():
        raise Unavailable("this torch brings no C++ headers")
    if any((torch / "lib").glob("libtorch_cuda*")):
        raise Unavailable("this torch is built for CUDA: the fake device needs a CPU build")
    digest = hashlib.sha256(f"{version}:{SOURCE.read_text(encoding='utf-8')}".encode()).hexdigest()[:12]
    target = folder / f"guard-{digest}.so"
    if target.exists():
        return target
    unfinished = target.with_suffix(f".{os.getpid()}")
    command = [compiler, "-O0", "-shared", "-fPIC", "-std=c++20", f"-I{torch / 'include'}", str(SOURCE)]
    command += [f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{torch / 'lib'}", "-o", str(unfinished)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"the guard cannot be compiled: {(done.stderr.strip().splitlines() or ['?'])[0]}")
    os.replace(unfinished, target)
    return target


def load(file: Path) -> None:
    """Put the guard into this process, which must not have imported torch yet."""
    assert "torch" not in sys.modules, "the guard comes before torch"
    ctypes.CDLL(str(torch_folder() / "lib" / "libtorch_global_deps.so"), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(file)).install()
