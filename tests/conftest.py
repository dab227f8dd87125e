"""What every test may use; and no test reaches the network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads cost more than they give

# The same examples on every machine and every run; training code is too slow for a deadline an example.
settings.register_profile("sevila", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("sevila")

REPOSITORY = Path(__file__).resolve().parents[1]


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

    The name of the machine is not looked up, which a container may not know. What they printed is shown where they
    fail.
    """

    def run(*words: str, cwd: Path = REPOSITORY) -> None:
        launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc_per_node=2"]
        launch += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
        paths = [str(REPOSITORY), *filter(None, sys.path)]
        own = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run(
            [*launch, *words], cwd=cwd, env={**os.environ, **own}, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"

    return run
