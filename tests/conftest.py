"""What every test may use; and no test reaches the network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import settings

import sevila.cli

if TYPE_CHECKING:
    import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads cost more than they give

# The same examples on every machine and every run; training code is too slow for a deadline an example.
settings.register_profile("sevila", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("sevila")

sevila.cli.SILENT_SECONDS = 3600.0  # what is loading is no part of what tests compare, however slow the machine

REPOSITORY = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, BITS = 96, 64, 8
MILLISECOND = Fraction(1, 1000)

Encode = Callable[..., Path]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference outputs of the published system: SEVILA_SHARED, or `../shared`.

    Without it the test is skipped and says so; with SEVILA_REQUIRE_SHARED=1 it fails, for where the reference
    ought to be nothing is skipped in silence.
    """
    folder = Path(os.environ.get("SEVILA_SHARED") or REPOSITORY.parent / "shared")
    if (folder / "golden").is_dir():
        return folder
    reason = f"no reference outputs at {folder}: set SEVILA_SHARED to the folder that holds golden/"
    if os.environ.get("SEVILA_REQUIRE_SHARED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that choose a very small drawn world, which is there already."""
    from sevila.synthetic.world import Recipe, make

    root = tmp_path_factory.mktemp("small_world")
    videos = {"train": 3, "val": 2, "test": 2, "moment_train": 2, "moment_val": 1}
    make(Recipe(**{f"{split}_videos": number for split, number in videos.items()}), root, workers=1)
    return [f"data.root={root}", *(f"data.{split}_videos={number}" for split, number in videos.items())]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One torch thread: quick beside other work, and the same arithmetic as in a process that was told so."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def torchrun() -> Callable[..., None]:
    """Run words of a command line in two processes that work together, over the loopback device alone.

    What they printed is shown where they fail.
    """

    def run(*words: str, cwd: Path = REPOSITORY) -> None:
        launched = launch("--nnodes=1", "--nproc_per_node=2", "--rdzv-endpoint=127.0.0.1:0", *words, cwd=cwd)
        out, err = launched.communicate(timeout=240)
        assert launched.returncode == 0, f"{out[-2000:]}\n{err[-6000:]}"

    return run


@pytest.fixture(scope="session")
def two_nodes() -> Callable[..., list[tuple[int, str]]]:
    """The same by a torchrun for each process, as on two machines, which work in folders of their own.

    Of each its exit code and what it printed on stderr.
    """

    def run(*words: str, folders: tuple[Path, Path]) -> list[tuple[int, str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            endpoint = f"--rdzv-endpoint=127.0.0.1:{free.getsockname()[1]}"
        nodes = [
            launch("--nnodes=2", f"--node-rank={rank}", "--nproc_per_node=1", endpoint, *words, cwd=folder)
            for rank, folder in enumerate(folders)
        ]
        said = [node.communicate(timeout=240)[1] for node in nodes]
        return [(node.returncode, err) for node, err in zip(nodes, said, strict=True)]

    return run


def launch(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """A torchrun; the name of the machine is not looked up, which a container may not know."""
    command = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--local-addr=127.0.0.1", *words]
    paths = [str(REPOSITORY), *filter(None, sys.path)]
    own = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=cwd, env={**os.environ, **own}, text=True, **pipes)


def numbered(number: int) -> np.ndarray:
    """A picture [HEIGHT, WIDTH, 3] of 8 bars: the bits of a number, the highest first, white for 1."""
    bars = [255 * (number >> bit & 1) for bit in reversed(range(BITS))]
    row = np.repeat(np.array(bars, dtype=np.uint8), WIDTH // BITS)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).copy()


@pytest.fixture(scope="session")
def numbers() -> Callable[[torch.Tensor], list[int]]:
    """Reads the numbers back: uint8 [T, 3, S, S] -> T numbers."""

    def read(pixels: torch.Tensor) -> list[int]:
        size = pixels.shape[-1]
        centres = [(2 * bar + 1) * size // (2 * BITS) for bar in range(BITS)]
        bits = pixels[:, :, size // 2, :].float().mean(1)[:, centres] > 127
        return [int("".join(str(int(bit)) for bit in row), 2) for row in bits]

    return read


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """encode(name, pictures) writes a video and returns its path.

    pictures   how many numbered ones, or the pictures themselves
    stamps     milliseconds of each; 25 a second where not given
    """

    def write(
        name: str,
        pictures: int | Sequence[np.ndarray],
        stamps: Sequence[int] | None = None,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        rate: int = 25,
        clock: Fraction = MILLISECOND,
    ) -> Path:
        images = [numbered(number) for number in range(pictures)] if isinstance(pictures, int) else pictures
        path = tmp_path / name
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=rate, options=options or {})
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = pixel_format
            stream.codec_context.time_base = clock
            for place, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = round(place / (rate * clock)) if stamps is None else stamps[place]
                frame.time_base = clock
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write
