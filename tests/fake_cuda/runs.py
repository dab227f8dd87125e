"""One path on the fake device, and its counts on the terminal."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_cuda.device import FakeCuda
from fake_cuda.ledger import PACKAGE, Ledger
from fake_cuda.paths import PATHS, Meter
from fake_cuda.scene import XL, Scene
from sevila.checkpoints.architecture import TINY

NAMES = list(PATHS)
WIDTH = max(map(len, NAMES))
GPU = FakeCuda()  # one for all: what it learns of a call's shapes it need not learn again


def run(name: str) -> dict[str, Any]:
    """The counts of a path."""
    return counted(PATHS[name])


def counted(path: Callable[[Scene, Meter], None], source: str = XL, padding: bool = True) -> dict[str, Any]:
    """The counts of a path, or `error` and the lines of the package that led to it."""
    GPU.ledger = Ledger()
    meter = Meter(GPU.ledger)
    with tempfile.TemporaryDirectory() as folder, GPU:
        try:
            path(Scene.prepared(GPU, Path(folder), source, padding), meter)
        except Exception as error:
            calls = [call for call in traceback.extract_tb(error.__traceback__) if call.filename.startswith(PACKAGE)]
            lines = [f"sevila/{call.filename.removeprefix(PACKAGE)}:{call.lineno}" for call in calls]
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0], "lines": lines}
    return meter.counts or {"error": "nothing was counted", "lines": []}


def run_faulty(name: str) -> dict[str, Any]:
    """What the fault's path counts with it, the tiny model's: passes are fewer, places the same."""
    from fake_cuda.faults import FAULTS  # planted in today's library, while paths run in others too

    with FAULTS[name].planted():
        return counted(PATHS[FAULTS[name].path], TINY)


def show(name: str, found: dict[str, Any], seconds: float, places: bool) -> None:
    """A line of counts; with `places` also where the host waits."""
    if "error" in found:
        print(f"{name:{WIDTH}} FAILS  {found['error']}  at {' < '.join(reversed(found['lines']))}", flush=True)
        return
    waits, copies = sum(found["waits"].values()), sum(found["copies"].values())
    uploads = found["uploads"].get("number", 0)
    print(
        f"{name:{WIDTH}} waits {waits:5} (in layers {sum(found['in_layers'].values())})   blocking copies {copies:5} "
        f"of {uploads:5}   kernels {found['kernels']:6}   {found['operations'] / 1e12:8.2f} T operations   "
        f"peak {found['peak'] / 1e9:6.2f} GB   {seconds:5.1f} s",
        flush=True,
    )
    if places:
        for kind in ("waits", "copies"):
            for place, number in sorted(found[kind].items(), key=lambda item: -item[1]):
                print(f"    {number:5}  {kind[:-1] if kind == 'waits' else 'copy':5} {place}")
